using SimpleR1.Inference;
using SimpleR1.Inference.Cuda;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Bench;

/// <summary>
/// The decode kernel alone: 256 sequences with 1,024 keys each, every layer's cache in turn, next to a copy of as many
/// bytes in the same run.
/// </summary>
internal sealed class AttentionBenchmark(
    FlatWeights weights,
    string model,
    EngineBenchmarkOptions options,
    Action<string> log
)
{
    private const int BlockTokens = 16;

    private readonly CudaDevice gpu = weights.Device!;
    private readonly ModelConfig config = weights.Layout.Config;
    private readonly ScalarType type = weights.Flat.dtype;
    private readonly int sequences = options.Scaled(256);
    private readonly int context = options.Scaled(1024);

    private int BlocksPerSequence => (context + BlockTokens - 1) / BlockTokens;
    private int Blocks => sequences * BlocksPerSequence;

    public BenchmarkResult Run()
    {
        // A cache of random keys and values, and random queries.
        using var scope = NewDisposeScope();
        var layout = new KvLayout(config, type, BlockTokens) { Blocks = Blocks };
        int row = config.QkvSize;
        using var cache = gpu.Allocate(layout.Bytes, "the benchmark's KV cache");
        using var qkv = gpu.Allocate((long)sequences * row * type.ElementSize(), "queries");
        using var output = gpu.Allocate((long)sequences * config.QuerySize * type.ElementSize(), "results");
        Fill(cache, seed: 1);
        Fill(qkv, seed: 2);

        // The kernel, on a step in which every sequence decodes.
        using var attention = new CudaPagedAttention(gpu, layout, cache, sequences);
        using var numbers = gpu.Allocate(4L * (Blocks + 4 * sequences + 64), "the plan");
        using var ids = gpu.Allocate(16L * sequences, "ids");
        Prepare(attention, numbers, ids);
        var queries = qkv.Tensor([sequences, row], type);
        var results = output.Tensor([sequences, config.QuerySize], type);
        double seconds = GpuTimer.TimeEach(
            gpu,
            config.Layers,
            layer => attention.LaunchDecode(layer, queries, results)
        );

        // A copy of one half of the cache over the other, read and written.
        long half = cache.Bytes / 2 / 256 * 256;
        nint secondHalf = cache.Pointer + (nint)half;
        double copySeconds = GpuTimer.TimeEach(gpu, 4, _ => gpu.CopyWithin(cache.Pointer, secondHalf, half));
        double bytes = 2.0 * sequences * context * config.KeyValueSize * type.ElementSize();
        return Report(seconds, bytes / seconds / 1e9, 2.0 * half / copySeconds / 1e9);
    }

    private void Fill(DeviceMemory memory, int seed) =>
        gpu
            .Kernels.Get("RandomFill", "random_fill", ElementType.Of(type).Definition())
            .Launch((4 * gpu.Multiprocessors, 1), 256, 0, memory, memory.Bytes / type.ElementSize(), 0f, 1f, seed);

    /// <summary>Writes block tables and plan of the step to the GPU.</summary>
    private void Prepare(CudaPagedAttention attention, DeviceMemory numbers, DeviceMemory ids)
    {
        // Blocks lie anywhere; every sequence has its whole context.
        int[] tables = [.. Enumerable.Range(0, Blocks)];
        new Random(1).Shuffle(tables);
        int[] positions = [.. Enumerable.Repeat(context - 1, sequences)];
        int[] slots = [.. Enumerable.Range(0, sequences)];
        int[] plan = new int[4];
        int[] tilesBefore = new int[sequences + 1];
        attention.PlanDecode(positions, plan, tilesBefore);

        long used = 0; // numbers
        nint Put(int[] values)
        {
            nint place = numbers.Pointer + (nint)(4 * used);
            gpu.Write<int>(place, values);
            used += (values.Length + 3) / 4 * 4;
            return place;
        }
        nint tablesAt = Put(tables);
        nint planAt = Put(plan);
        nint tilesAt = Put(tilesBefore);
        nint slotsAt = Put(slots);
        nint positionsAt = Put(positions);

        var blockTables = new DeviceTable(tablesAt, BlocksPerSequence);
        attention.Current = new()
        {
            Slots = slotsAt,
            BlockTables = blockTables,
            Plan = planAt,
            TilesBefore = tilesAt,
            DecodeSlots = slotsAt,
            DecodePositions = positionsAt,
            Decodes = true,
        };
        attention.Prepare(positionsAt, sequences, blockTables, ids.Pointer, ids.Pointer + 8 * sequences);
    }

    private BenchmarkResult Report(double seconds, double rate, double copyRate)
    {
        log(
            $"attention {sequences} sequences × {context} keys: {1e6 * seconds:0.0} µs a layer, {rate:N0} GB/s = "
                + $"{rate / copyRate:P1} of a copy's {copyRate:N0} GB/s (read + written)"
        );
        var figures = new SortedDictionary<string, double>(StringComparer.Ordinal)
        {
            ["microseconds_per_layer"] = 1e6 * seconds,
            ["gigabytes_per_second"] = rate,
            ["copy_gigabytes_per_second"] = copyRate,
            ["share_of_copy_bandwidth"] = rate / copyRate,
        };
        return new("attention", model, gpu.Name, type.ToString(), figures);
    }
}
