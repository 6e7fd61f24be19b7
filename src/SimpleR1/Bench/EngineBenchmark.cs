using System.Diagnostics;
using System.Globalization;
using SimpleR1.Inference;
using SimpleR1.Inference.Cuda;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Bench;

/// <summary>One measured case; figures by name, times of repeated runs as (median, least, largest).</summary>
public sealed record BenchmarkResult(
    string Case,
    string Model,
    string Device,
    string Type,
    SortedDictionary<string, double> Figures
);

/// <summary>What to measure.</summary>
public sealed record EngineBenchmarkOptions
{
    /// <summary>Of the names in <see cref="EngineBenchmark.Cases"/>; all by default.</summary>
    public IReadOnlyList<string> Cases { get; init; } = EngineBenchmark.Cases;
    public int Repeats { get; init; } = 3;
    public EngineOptions Engine { get; init; } = EngineOptions.ForGpu;

    /// <summary>Scales down numbers of sequences and tokens, for a quick look or a CPU.</summary>
    public double Scale { get; init; } = 1;
}

/// <summary>
/// Throughput of the engine in the cases that others publish. A case runs once to warm up (kernels are compiled, graphs recorded), then
/// several times on the same engine with its prefix cache cleared in between.
/// </summary>
public sealed class EngineBenchmark(
    FlatWeights weights,
    string model,
    EngineBenchmarkOptions options,
    Action<string> print
)
{
    /// <summary>groups: 128 prompts of 128 tokens, 8 samples each, 256 new tokens; lengths: nano-vllm's benchmark; single: one sequence, 512 new tokens; attention: the decode kernel alone; products: the matrix products of a layer alone.</summary>
    public static readonly string[] Cases = ["groups", "lengths", "single", "attention", "products"];
    private static readonly string[] EngineCases = ["groups", "lengths", "single"];

    private readonly ModelConfig config = weights.Layout.Config;

    public IReadOnlyList<BenchmarkResult> Run()
    {
        var results = new List<BenchmarkResult>();
        using var decoder = new Models.Decoder(weights);
        if (options.Cases.Any(EngineCases.Contains))
        {
            using var engine = new Engine(decoder, null, options.Engine);
            if (engine.Description is { } description)
                print(description);
            foreach (string name in options.Cases.Where(EngineCases.Contains))
                results.Add(
                    Measure(
                        engine,
                        name,
                        name switch
                        {
                            "groups" => Groups(),
                            "lengths" => Lengths(),
                            _ => Single(),
                        }
                    )
                );
        }
        if (options.Cases.Contains("attention") && weights.Device is { } gpu)
            results.Add(Attention(gpu));
        if (options.Cases.Contains("products") && weights.Device is { } same)
            results.Add(Products(same));
        return results;
    }

    /// <summary>GPU time of a case by kernel, in order; runs without graphs.</summary>
    public IReadOnlyList<(string Name, long Calls, double Milliseconds)> Profile(string name)
    {
        var gpu = weights.Device ?? throw new NotSupportedException("profiles are made on GPUs");
        using var decoder = new Models.Decoder(weights);
        using var engine = new Engine(decoder, null, options.Engine with { CudaGraphs = false });
        var requests = name switch
        {
            "groups" => Groups(),
            "lengths" => Lengths(),
            _ => Single(),
        };
        RunAll(engine, requests);
        using var profile = new KernelProfile(gpu);
        gpu.Profile = profile;
        try
        {
            RunAll(engine, requests);
        }
        finally
        {
            gpu.Profile = null;
        }
        return profile.Result();
    }

    // ---- cases

    private int Scaled(int count) => Math.Max(1, (int)(count * options.Scale));

    private GenerationRequest[] Groups() =>
        [
            .. Enumerable
                .Range(0, Scaled(128))
                .Select(i =>
                    Request(
                        i,
                        128,
                        new()
                        {
                            Samples = 8,
                            Temperature = 1,
                            MaxTokens = Scaled(256),
                            IgnoreEos = true,
                            Seed = (ulong)i,
                        }
                    )
                ),
        ];

    private GenerationRequest[] Lengths()
    {
        using var reader = new StreamReader(
            typeof(EngineBenchmark).Assembly.GetManifestResourceStream("nano-vllm-lengths.txt")!
        );
        int[][] pairs =
        [
            .. reader
                .ReadToEnd()
                .Split('\n')
                .Where(l => l.Length > 0 && l[0] != '#')
                .Select(l => l.Split(' ').Select(n => int.Parse(n, CultureInfo.InvariantCulture)).ToArray()),
        ];
        return
        [
            .. pairs
                .Take(Scaled(pairs.Length))
                .Select(
                    (p, i) =>
                        Request(
                            i,
                            Scaled(p[0]),
                            new()
                            {
                                Temperature = 0.6,
                                MaxTokens = Scaled(p[1]),
                                IgnoreEos = true,
                                Seed = (ulong)i,
                            }
                        )
                ),
        ];
    }

    private GenerationRequest[] Single() =>
        [
            Request(
                0,
                128,
                new()
                {
                    Temperature = 1,
                    MaxTokens = Scaled(512),
                    IgnoreEos = true,
                }
            ),
        ];

    private GenerationRequest Request(int number, int promptLength, SamplingParameters sampling)
    {
        var random = new Random(number);
        return new(
            $"r{number}",
            [.. Enumerable.Range(0, promptLength).Select(_ => random.Next(Math.Min(10_000, config.VocabularySize)))],
            sampling
        );
    }

    private BenchmarkResult Measure(Engine engine, string name, GenerationRequest[] requests)
    {
        double first = RunAll(engine, requests).Seconds;
        var runs = Enumerable
            .Range(0, options.Repeats)
            .Select(_ => RunAll(engine, requests))
            .OrderBy(r => r.Seconds)
            .ToArray();
        var median = runs[runs.Length / 2];
        var figures = new SortedDictionary<string, double>(StringComparer.Ordinal)
        {
            ["tokens"] = median.Tokens,
            ["tokens_per_second"] = median.Tokens / median.Seconds,
            ["tokens_per_second_least"] = median.Tokens / runs[^1].Seconds,
            ["tokens_per_second_largest"] = median.Tokens / runs[0].Seconds,
            ["tokens_per_second_first_run"] = median.Tokens / first,
            ["milliseconds_per_step"] = 1000 * median.Seconds / median.Steps,
            ["steps"] = median.Steps,
        };
        if (weights.Device is { } gpu)
        {
            figures["share_outside_gpu"] = Math.Max(0, 1 - median.GpuSeconds / median.Seconds);
            figures["share_host_waits"] = median.WaitSeconds / median.Seconds;
            figures["share_host_launches"] = median.LaunchSeconds / median.Seconds;
            var (free, total) = gpu.FreeMemory();
            figures["gpu_memory_gib"] = (total - free) / (double)(1L << 30);
        }
        print(
            $"{name, -9} {figures["tokens_per_second"], 9:N0} tokens/s [{figures["tokens_per_second_least"]:N0}, {figures["tokens_per_second_largest"]:N0}], {figures["milliseconds_per_step"]:0.000} ms a step"
                + (
                    weights.Device is null
                        ? ""
                        : $", {figures["share_outside_gpu"]:P1} of it outside the GPU (the host launches {figures["share_host_launches"]:P0} and waits {figures["share_host_waits"]:P0}), {figures["gpu_memory_gib"]:0.0} GiB"
                )
                + $" (first run: {figures["tokens_per_second_first_run"]:N0})"
        );
        return new(name, model, weights.Device?.Name ?? "CPU", weights.Flat.dtype.ToString(), figures);
    }

    private (
        double Seconds,
        double GpuSeconds,
        double WaitSeconds,
        double LaunchSeconds,
        long Tokens,
        long Steps
    ) RunAll(Engine engine, GenerationRequest[] requests)
    {
        engine.ResetPrefixCache();
        long tokens = 0;
        var before = engine.Statistics;
        long start = Stopwatch.GetTimestamp();
        engine.Submit(requests, onCompletion: c => tokens += c.Tokens.Length);
        while (engine.Step()) { }
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        var after = engine.Statistics;
        return (
            seconds,
            after.GpuSeconds - before.GpuSeconds,
            after.WaitSeconds - before.WaitSeconds,
            after.LaunchSeconds - before.LaunchSeconds,
            tokens,
            after.Steps - before.Steps
        );
    }

    // ---- the decode kernel alone

    /// <summary>256 sequences with 1,024 keys each, every layer's cache in turn, against a copy of as many bytes in the same run.</summary>
    private BenchmarkResult Attention(CudaDevice gpu)
    {
        const int block = 16;
        int sequences = Scaled(256),
            context = Scaled(1024),
            perSequence = (context + block - 1) / block,
            blocks = sequences * perSequence;
        var type = weights.Flat.dtype;
        using var scope = NewDisposeScope();
        var layout = new KvLayout(config, type, block) { Blocks = blocks };
        using var cache = gpu.Allocate(layout.Bytes, "the benchmark's KV cache");
        int row = config.QkvSize;
        using var qkv = gpu.Allocate((long)sequences * row * type.ElementSize(), "queries");
        using var output = gpu.Allocate((long)sequences * config.QuerySize * type.ElementSize(), "results");
        var fill = gpu.Kernels.Get("RandomFill", "random_fill", CudaOps.Element(type));
        fill.Launch((4 * gpu.Multiprocessors, 1), 256, 0, cache, cache.Bytes / type.ElementSize(), 0f, 1f, 1);
        fill.Launch((4 * gpu.Multiprocessors, 1), 256, 0, qkv, qkv.Bytes / type.ElementSize(), 0f, 1f, 2);
        using var attention = new CudaPagedAttention(gpu, layout, cache, sequences);
        var order = Enumerable.Range(0, blocks).ToArray();
        new Random(1).Shuffle(order); // blocks lie anywhere
        int[] plan = new int[4],
            before = new int[sequences + 1],
            at = [.. Enumerable.Repeat(context - 1, sequences)],
            slots = [.. Enumerable.Range(0, sequences)];
        attention.PlanDecode(at, plan, before);
        using var numbers = gpu.Allocate(4L * (blocks + 4 * sequences + 64), "the plan");
        long used = 0;
        nint Put(int[] values)
        {
            nint place = numbers.Pointer + (nint)(4 * used);
            gpu.Write<int>(place, values);
            used += (values.Length + 3) / 4 * 4;
            return place;
        }
        var (tables, planAt, beforeAt, slotsAt, atAt) = (Put(order), Put(plan), Put(before), Put(slots), Put(at));
        using var ids = gpu.Allocate(16L * sequences, "ids");
        var blockTables = new DeviceTable(tables, perSequence);
        attention.Current = new()
        {
            Slots = slotsAt,
            BlockTables = blockTables,
            Plan = planAt,
            TilesBefore = beforeAt,
            DecodeSlots = slotsAt,
            DecodePositions = atAt,
            Decodes = true,
        };
        attention.Prepare(atAt, sequences, blockTables, ids.Pointer, ids.Pointer + 8 * sequences);
        var (q, o) = (qkv.Tensor([sequences, row], type), output.Tensor([sequences, config.QuerySize], type));
        double perLayer = TimeEach(gpu, config.Layers, layer => attention.LaunchDecode(layer, q, o));
        double bytes = 2.0 * sequences * context * config.KeyValueSize * type.ElementSize();
        long half = cache.Bytes / 2 / 256 * 256;
        double copy = TimeEach(gpu, 4, _ => gpu.CopyWithin(cache.Pointer, cache.Pointer + (nint)half, half));
        double rate = bytes / perLayer / 1e9,
            copyRate = 2.0 * half / copy / 1e9;
        print(
            $"attention {sequences} sequences × {context} keys: {1e6 * perLayer:0.0} µs a layer, {rate:N0} GB/s = {rate / copyRate:P1} of a copy's {copyRate:N0} GB/s (read + written)"
        );
        return new(
            "attention",
            model,
            gpu.Name,
            type.ToString(),
            new(StringComparer.Ordinal)
            {
                ["microseconds_per_layer"] = 1e6 * perLayer,
                ["gigabytes_per_second"] = rate,
                ["copy_gigabytes_per_second"] = copyRate,
                ["share_of_copy_bandwidth"] = rate / copyRate,
            }
        );
    }

    /// <summary>Microseconds of each product of a layer by the number of rows; every layer's weights in turn, so that they come from memory.</summary>
    private BenchmarkResult Products(CudaDevice gpu)
    {
        int[] rows = [1, 4, 8, 32, 64, 128, 256, 512, 1024];
        var figures = new SortedDictionary<string, double>(StringComparer.Ordinal);
        print($"products  {"µs with rows", -22}{string.Concat(rows.Select(r => $"{r, 8}"))}");
        foreach (string name in new[] { "qkv", "attention_output", "gate_up", "down" })
        {
            var shape = weights[$"layers.0.{name}"].shape;
            using var x = gpu.Allocate(rows[^1] * shape[1] * weights.Flat.element_size(), "the benchmark's input");
            gpu.Kernels.Get("RandomFill", "random_fill", CudaOps.Element(weights.Flat.dtype))
                .Launch((gpu.Multiprocessors, 1), 256, 0, x, rows[^1] * shape[1], 0f, 1f, 3);
            gpu.Scratch.Reserve(rows[^1] * shape[0] * 4, "");
            var times = rows.Select(r =>
                {
                    using var scope = NewDisposeScope();
                    var input = x.Tensor([r, shape[1]], weights.Flat.dtype);
                    return 1e6
                        * TimeEach(
                            gpu,
                            config.Layers,
                            layer =>
                            {
                                gpu.Scratch.Reset();
                                Ops.Linear(null, input, weights[$"layers.{layer}.{name}"]);
                            }
                        );
                })
                .ToArray();
            for (int i = 0; i < rows.Length; i++)
                figures[$"{name}_{rows[i]}_microseconds"] = times[i];
            print($"  {$"{name} [{shape[0]}, {shape[1]}]", -30}{string.Concat(times.Select(t => $"{t, 8:0.0}"))}");
        }
        return new("products", model, gpu.Name, weights.Flat.dtype.ToString(), figures);
    }

    /// <summary>Seconds of one call, the median of several rounds over all items.</summary>
    private static double TimeEach(CudaDevice gpu, int items, Action<int> call)
    {
        using CudaEvent begin = new(gpu, timed: true),
            end = new(gpu, timed: true);
        var times = new List<double>();
        for (int round = 0; round < 12; round++)
        {
            gpu.Kernels.Get("Delay", "delay", "ELEMENT=float").Launch((1, 1), 32, 0, 1_000_000); // the host gets ahead
            begin.Record();
            for (int i = 0; i < items; i++)
                call(i);
            end.Record();
            end.Wait();
            if (round > 1)
                times.Add(end.MillisecondsSince(begin) / 1000 / items);
        }
        times.Sort();
        return times[times.Count / 2];
    }
}
