using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Worker;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync.SharedMemory;
using static TorchSharp.torch;

namespace SimpleR1.Bench.Sync;

/// <summary>
/// <c>simple-r1 bench sync</c>: weight updates of real worker processes, phase by phase, next to a bare broadcast of
/// the same bytes in the same run, and next to two ways of sending parameter by parameter: the original project's,
/// and the same in bf16 without its call for each parameter.
/// </summary>
public sealed class SyncBenchmark(SyncBenchmarkOptions options, Action<string> log)
{
    private const int WarmUpUpdates = 2; // processes start, and memory is touched for the first time
    private static readonly EngineOptions SmallEngine = new()
    {
        KvCacheBytes = 64 << 20,
        MaxContext = 256,
        MaxSequences = 16,
    };

    private readonly WeightLayout layout = new(NamedShapes.Get(options.Model));
    private readonly SortedDictionary<string, double> figures = new(StringComparer.Ordinal);

    public async Task<BenchmarkResult> RunAsync()
    {
        // A device that does not exist is reported before anything is measured.
        var cluster = options.Cluster;
        _ = WorkerDevices.Expand(cluster.Worker.Device);
        if (cluster.SendDevice is { } sendDevice)
            _ = WorkerDevices.ExpandGpus(sendDevice);

        using var weights = CreateSource();
        bool gpu = cluster.Worker.Device != "cpu";
        var type = gpu ? ElementType.Parse(cluster.Worker.Type).Scalar : ScalarType.Float32;
        long bytes = layout.Length * type.ElementSize();
        LogSetting(weights, bytes);

        // The other ways first: workers compete with them for the cores.
        var comparison = new SyncComparison(options, layout, log, figures);
        comparison.MeasureBare(weights, bytes);
        comparison.MeasureHash(type, bytes);
        comparison.MeasureParameters();

        var reports = await UpdateAsync(weights);
        new SyncFigures(reports, bytes).Write(options, figures, log);
        return new("sync", options.Model, cluster.Worker.Device, gpu ? cluster.Worker.Type : "f32", figures);
    }

    private void LogSetting(FlatWeights weights, long bytes)
    {
        string workers = options.Cluster.Workers == 1 ? "1 worker" : $"{options.Cluster.Workers} workers";
        log(
            $"Weight sync of {options.Model}: {layout.ParameterCount / 1e6:F1} M parameters in "
                + $"{layout.Slots.Count} tensors; "
                + $"{workers} on {options.Cluster.Worker.Device} hold {bytes / 1e6:F0} MB each; "
                + $"the trainer's weights are on {weights.Device?.Name ?? "the CPU"} in {weights.Flat.dtype}; "
                + $"{Environment.ProcessorCount} cores; median of {options.Rounds}"
        );
    }

    /// <summary>Updates real workers.</summary>
    private async Task<IReadOnlyList<SyncReport>> UpdateAsync(FlatWeights weights)
    {
        var setup = new WorkerSetup(layout.Config, null, SmallEngine);
        await using var cluster = await TrainerCluster.StartAsync(options.Cluster, setup);
        var reports = new List<SyncReport>();
        for (int version = 0; version < WarmUpUpdates + options.Rounds; version++)
        {
            Change(weights, version);
            var report = await cluster.Workers.PushWeightsAsync(weights, version);
            if (version >= WarmUpUpdates)
                reports.Add(report);
        }
        return reports;
    }

    /// <summary>The trainer's weights.</summary>
    /// <exception cref="ArgumentException">
    /// The weights are to be on a GPU without a GPU to send from, or only some of them are to change.
    /// </exception>
    private FlatWeights CreateSource()
    {
        if (!options.SourceOnGpu)
        {
            var weights = SharedWeightMemory.Allocate(layout);
            weights.Flat.uniform_(-1, 1);
            return weights;
        }

        if (options.Cluster.SendDevice is not { } device || options.Changed < 1)
            throw new ArgumentException("--source gpu: give --send-device too, and no --changed");
        var gpu = CudaDevice.Parse(WorkerDevices.ExpandGpus(device)[0])!;
        return new(layout, ElementType.Parse(options.Cluster.Worker.Type).Scalar, gpu);
    }

    private unsafe void Change(FlatWeights weights, int version)
    {
        if (weights.Device is { } gpu)
        {
            gpu.Kernels.Get("RandomFill", "random_fill", ElementType.Of(weights.Flat.dtype).Definition())
                .Launch((4 * gpu.Multiprocessors, 1), 256, 0, weights.Pointer, layout.Length, 0f, 1f, version);
            gpu.Synchronize();
        }
        else if (options.Changed >= 1)
            weights.Flat.mul_(1.001f);
        else
        {
            float* memory = (float*)weights.Pointer;
            long step = (long)(1 / options.Changed);
            for (long i = version % step; i < layout.Length; i += step)
                memory[i] *= 1.5f;
        }
    }
}
