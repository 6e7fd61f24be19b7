using System.Diagnostics;
using SimpleR1.Bench;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Worker;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.SharedMemory;

namespace SimpleR1.Benchmarks;

/// <summary>
/// Runs weight updates one after another, of a tiny model on two workers, or one on each GPU: neither memory, nor open files, nor
/// the time of an update may grow.
/// </summary>
internal static class SyncSoak
{
    private const int Windows = 10;

    /// <summary>Figures after each tenth of the updates.</summary>
    private sealed record Window(
        double MedianSeconds,
        long TrainerBytes,
        long WorkerBytes,
        int OpenFiles,
        long DeviceBytes
    )
    {
        public override string ToString() =>
            $"{1e3 * MedianSeconds, 8:F2} {TrainerBytes / 1e6, 12:F1} {WorkerBytes / 1e6, 12:F1} "
            + $"{OpenFiles, 12} {DeviceBytes / 1e6, 12:F1}";
    }

    /// <param name="arguments">Updates (10,000), transport (Auto), the workers' devices (cpu), the trainer's GPU to send from.</param>
    /// <exception cref="InvalidOperationException">A figure grew; the message names it.</exception>
    public static async Task<int> RunAsync(TextWriter output, string[] arguments)
    {
        string? Argument(int at) => arguments.Length > at ? arguments[at] : null;
        int updates = int.Parse(Argument(0) ?? "10000");
        var transport = Enum.Parse<WeightTransportChoice>(Argument(1) ?? "Auto", ignoreCase: true);
        using var weights = SharedWeightMemory.Allocate(new WeightLayout(ClusterSelfTest.TinyModel));
        weights.Flat.uniform_(-0.1, 0.1);
        string device = Argument(2) ?? "cpu";
        int count = Argument(3) is null ? 2 : WorkerDevices.Expand(device).Count;
        await using var cluster = await TrainerCluster.StartAsync(
            new()
            {
                Workers = count,
                Worker = new() { Device = device, Threads = 1 },
                Transport = transport,
                SendDevice = Argument(3),
                WorkerCommand = ThisProgram.Worker(device, Argument(3), count, "worker"),
            },
            new(ClusterSelfTest.TinyModel, null, new() { KvCacheBytes = 16 << 20 })
        );
        await output.WriteLineAsync(
            $"{updates:N0} updates of {weights.ByteLength:N0} bytes, {transport}; after each tenth:\n"
                + "  median ms   trainer MB   workers MB   open files    device MB"
        );
        var windows = new List<Window>();
        for (int window = 0; window < Windows; window++)
        {
            double[] times = await MeasureAsync(cluster.Workers, weights, window, updates, count);
            windows.Add(Measured(times, cluster.Workers, Argument(3)));
            await output.WriteLineAsync($"  {windows[^1]}");
        }

        RequireNoGrowth(windows);
        await output.WriteLineAsync("nothing grew");
        return 0;
    }

    /// <summary>The figures after updates that took these seconds.</summary>
    private static Window Measured(double[] times, WorkerPool pool, string? devices)
    {
        Array.Sort(times);
        int[] workers = [.. pool.Status().Where(w => w.State == WorkerState.Ready).Select(w => w.ProcessId)];
        return new(
            times[times.Length / 2],
            Anonymous(Environment.ProcessId),
            workers.Max(Anonymous),
            workers.Append(Environment.ProcessId).Max(id => Directory.GetFiles($"/proc/{id}/fd").Length),
            DeviceBytes(devices)
        );
    }

    /// <summary>Runs a tenth of the updates.</summary>
    /// <returns>Seconds of each.</returns>
    private static async Task<double[]> MeasureAsync(
        WorkerPool workers,
        FlatWeights weights,
        int window,
        int updates,
        int count
    )
    {
        var times = new double[Math.Max(1, updates / Windows)];
        for (int i = 0; i < times.Length; i++)
        {
            weights.Flat.mul_(i % 2 == 0 ? 1.25f : 0.8f);
            long start = Stopwatch.GetTimestamp();
            var report = await workers.PushWeightsAsync(weights, window * times.Length + i);
            times[i] = Stopwatch.GetElapsedTime(start).TotalSeconds;
            if (report.Workers.Count != count)
                throw new InvalidOperationException(
                    $"an update reached {report.Workers.Count} of {count} workers: {string.Join("; ", report.Dropped)}"
                );
        }

        return times;
    }

    private static void RequireNoGrowth(List<Window> windows)
    {
        // The heap of .NET grows and shrinks by some MB; a leak of one buffer an update would be the weights' size times the
        // updates.
        var (early, late) = (windows[1], windows[^1]);
        long allowed = (32 << 20) + early.TrainerBytes / 10;
        foreach (
            var (what, from, to) in ((string, long, long)[])
                [
                    ("the trainer's memory", early.TrainerBytes, late.TrainerBytes),
                    ("a worker's memory", early.WorkerBytes, late.WorkerBytes),
                    ("the device's memory", early.DeviceBytes, late.DeviceBytes),
                ]
        )
            if (to > from + allowed)
                throw new InvalidOperationException($"{what} grew from {from:N0} to {to:N0} bytes");
        if (late.OpenFiles > early.OpenFiles + 8)
            throw new InvalidOperationException($"open files grew from {early.OpenFiles} to {late.OpenFiles}");
    }

    /// <summary>Memory in use on the first of the GPUs; 0 where there is none.</summary>
    private static long DeviceBytes(string? devices)
    {
        if (devices is null)
            return 0;

        var memory = CudaDevice.Parse(WorkerDevices.ExpandGpus(devices)[0])!.FreeMemory();
        return memory.Total - memory.Free;
    }

    /// <summary>Resident memory of a process that is not of a file, in bytes; shared memory is a file's.</summary>
    private static long Anonymous(int process) =>
        1024
        * long.Parse(
            File.ReadLines($"/proc/{process}/status")
                .First(line => line.StartsWith("RssAnon:", StringComparison.Ordinal))
                .Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]
        );
}
