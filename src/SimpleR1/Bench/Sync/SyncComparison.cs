using System.Diagnostics;
using System.Runtime.InteropServices;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Worker;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync;
using static TorchSharp.torch;

namespace SimpleR1.Bench.Sync;

/// <summary>What weight updates are compared with, measured with threads of this process.</summary>
/// <param name="figures">Takes the times.</param>
internal sealed class SyncComparison(
    SyncBenchmarkOptions options,
    WeightLayout layout,
    Action<string> log,
    SortedDictionary<string, double> figures
)
{
    public const string Bare = "bare_seconds";
    public const string PerParameter = "per_parameter_bf16_seconds";
    public const string Original = "per_parameter_original_seconds";

    private readonly ClusterOptions cluster = options.Cluster;

    /// <summary>
    /// One broadcast of as many bytes, unchecked, by the workers' own collectives; if they share memory, one memcpy to
    /// each at the same time.
    /// </summary>
    public void MeasureBare(FlatWeights weights, long bytes)
    {
        bool sharesMemory =
            cluster.Worker.Device == "cpu"
            && cluster.Transport is WeightTransportChoice.Auto or WeightTransportChoice.SharedMemory;
        figures[Bare] = sharesMemory ? MeasureCopies(weights.Pointer, bytes) : MeasureBroadcast(bytes);
    }

    private unsafe double MeasureCopies(nint source, long bytes)
    {
        nint[] copies =
        [
            .. Enumerable.Range(0, cluster.Workers).Select(_ => (nint)NativeMemory.AlignedAlloc((nuint)bytes, 64)),
        ];
        void Copy(int i) => Buffer.MemoryCopy((void*)source, (void*)copies[i], bytes, bytes);
        double seconds = Measure(
            "bare copy to each worker's buffer",
            bytes,
            () => Parallel.For(0, copies.Length, Copy)
        );
        foreach (nint copy in copies)
            NativeMemory.AlignedFree((void*)copy);
        return seconds;
    }

    private double MeasureBroadcast(long bytes)
    {
        using var group = MemberGroup.Form(cluster, bytes, staging: 0);
        return Measure(
            $"bare broadcast by {group.Name}",
            bytes,
            () => group.Each((member, _) => member.Broadcast(0, bytes))
        );
    }

    /// <summary>
    /// The hash by which a worker proves its weights, of as many bytes on its device: a part of each update's transfer,
    /// or of a joining worker's.
    /// </summary>
    public void MeasureHash(ScalarType type, long bytes)
    {
        var gpu = CudaDevice.Parse(WorkerDevices.Expand(cluster.Worker.Device)[0]);
        using var held = gpu is null
            ? new FlatWeights(layout, type, CPU)
            : new FlatWeights(layout, type, gpu.WithOwnStream());
        figures["hash_seconds"] = Measure("hash of a worker's weights", bytes, () => WeightHash.Of(held));
    }

    /// <summary>Both ways of sending parameter by parameter.</summary>
    public void MeasureParameters()
    {
        long largest = layout.CheckpointTensors.Max(t => t.Length);
        using var group = MemberGroup.Form(cluster, layout.Length * sizeof(float), largest * sizeof(float));
        figures[PerParameter] = MeasureParameters(group, "per parameter, bf16", calls: false);
        figures[Original] = MeasureParameters(
            group,
            "per parameter, f32, with a call for each (the original's way)",
            calls: true
        );
    }

    /// <param name="calls">
    /// Each parameter is announced by a call that is answered, then broadcast in f32, then copied to its place.
    /// </param>
    private double MeasureParameters(MemberGroup group, string name, bool calls)
    {
        var tensors = layout.CheckpointTensors;
        int size = calls ? sizeof(float) : 2; // bytes of an element
        void SendAll()
        {
            using var line = calls ? new CallLine(group.Count) : null;
            group.Each(
                (member, rank) =>
                {
                    foreach (var tensor in tensors)
                    {
                        line?.Call(rank, tensor.Name);
                        member.Broadcast(tensor.Offset * size, tensor.Length * size);
                        if (calls && rank > 0)
                            member.CopyOut(tensor.Offset * size, tensor.Length * size);
                    }
                }
            );
        }
        return Measure(name, tensors.Sum(t => t.Length) * size, SendAll);
    }

    /// <summary>The median of several rounds, in seconds.</summary>
    private double Measure(string name, long bytes, Action action)
    {
        action(); // touches memory and connects
        var times = new double[options.Rounds];
        for (int i = 0; i < times.Length; i++)
        {
            long start = Stopwatch.GetTimestamp();
            action();
            times[i] = Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        Array.Sort(times);
        double median = times[times.Length / 2];
        log($"  {name}: {1e3 * median:F2} ms, {bytes * cluster.Workers / median / 1e9:F2} GB/s");
        return median;
    }
}
