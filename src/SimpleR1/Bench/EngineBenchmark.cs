using System.Diagnostics;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Bench;

/// <summary>
/// <c>simple-r1 bench engine</c>: throughput of the engine in the cases that other projects publish. A case runs once
/// to warm up (kernels are compiled, graphs recorded), then several times on the same engine with its prefix cache
/// cleared in between.
/// </summary>
public sealed class EngineBenchmark(
    FlatWeights weights,
    string model,
    EngineBenchmarkOptions options,
    Action<string> log
)
{
    /// <summary>
    /// groups: 128 prompts of 128 tokens, 8 samples each, 256 new tokens; lengths: nano-vllm's benchmark; single: one
    /// sequence, 512 new tokens; shared: whether samples of a prompt agree; attention: the decode kernel alone;
    /// products: the matrix products of a layer alone; sampling: the sampling filters alone.
    /// </summary>
    public static readonly string[] Cases = [.. EngineRequests.Cases, Shared, "attention", "products", "sampling"];
    private const string Shared = "shared";

    private readonly EngineRequests requests = new(options, weights.Layout.Config.VocabularySize);

    public IReadOnlyList<BenchmarkResult> Run()
    {
        var results = new List<BenchmarkResult>();
        string[] engineCases = [.. options.Cases.Where(EngineRequests.Cases.Contains)];
        if (engineCases.Length > 0 || options.Cases.Contains(Shared))
        {
            using var decoder = new Decoder(weights);
            using var engine = new Engine(decoder, null, options.Engine);
            if (engine.Description is { } description)
                log(description);
            foreach (string name in engineCases)
                results.Add(Measure(engine, name));
            if (options.Cases.Contains(Shared))
                results.Add(new SharedPromptBenchmark(weights, model, options, log).Run(engine));
        }

        // Kernels alone are measured on GPUs only.
        if (options.Cases.Contains("attention") && weights.Device is not null)
            results.Add(new AttentionBenchmark(weights, model, options, log).Run());
        if (options.Cases.Contains("products") && weights.Device is not null)
            results.Add(new ProductBenchmark(weights, model, log).Run());
        if (options.Cases.Contains("sampling") && weights.Device is not null)
            results.Add(new SamplingBenchmark(weights, model, options, log).Run());
        return results;
    }

    /// <summary>GPU time of a case by kernel, in order; runs without graphs.</summary>
    /// <exception cref="NotSupportedException">The weights are on a CPU.</exception>
    public IReadOnlyList<(string Name, long Calls, double Milliseconds)> Profile(string name)
    {
        var gpu = weights.Device ?? throw new NotSupportedException("profiles are made on GPUs");
        using var decoder = new Decoder(weights);
        using var engine = new Engine(decoder, null, options.Engine with { CudaGraphs = false });
        var all = requests.ForCase(name);
        RunAll(engine, all); // warms up

        using var profile = new KernelProfile(gpu);
        gpu.Profile = profile;
        try
        {
            RunAll(engine, all);
        }
        finally
        {
            gpu.Profile = null;
        }
        return profile.Result();
    }

    private BenchmarkResult Measure(Engine engine, string name)
    {
        var all = requests.ForCase(name);
        var first = RunAll(engine, all);
        EngineRun[] runs =
        [
            .. Enumerable.Range(0, options.Repeats).Select(_ => RunAll(engine, all)).OrderBy(r => r.Seconds),
        ];
        var figures = Figures(first, runs);
        if (weights.Device is { } gpu)
            AddGpuFigures(figures, runs[runs.Length / 2], gpu);
        Log(name, figures);
        return new(name, model, weights.Device?.Name ?? "CPU", weights.Flat.dtype.ToString(), figures);
    }

    /// <param name="runs">From the fastest to the slowest.</param>
    private static SortedDictionary<string, double> Figures(EngineRun first, EngineRun[] runs)
    {
        var median = runs[runs.Length / 2];
        return new(StringComparer.Ordinal)
        {
            ["tokens"] = median.Tokens,
            ["tokens_per_second"] = median.Tokens / median.Seconds,
            ["tokens_per_second_least"] = median.Tokens / runs[^1].Seconds,
            ["tokens_per_second_largest"] = median.Tokens / runs[0].Seconds,
            ["tokens_per_second_first_run"] = median.Tokens / first.Seconds,
            ["milliseconds_per_step"] = 1000 * median.Seconds / median.Steps,
            ["steps"] = median.Steps,
        };
    }

    private static void AddGpuFigures(SortedDictionary<string, double> figures, EngineRun median, CudaDevice gpu)
    {
        var (free, total) = gpu.FreeMemory();
        figures["share_outside_gpu"] = Math.Max(0, 1 - median.GpuSeconds / median.Seconds);
        figures["share_host_waits"] = median.WaitSeconds / median.Seconds;
        figures["share_host_launches"] = median.LaunchSeconds / median.Seconds;
        figures["gpu_memory_gib"] = (total - free) / (double)(1L << 30);
    }

    private void Log(string name, SortedDictionary<string, double> f)
    {
        string gpu = weights.Device is null
            ? ""
            : $", {f["share_outside_gpu"]:P1} of it outside the GPU (the host launches {f["share_host_launches"]:P0} "
                + $"and waits {f["share_host_waits"]:P0}), {f["gpu_memory_gib"]:0.0} GiB";
        log(
            $"{name, -9} {f["tokens_per_second"], 9:N0} tokens/s "
                + $"[{f["tokens_per_second_least"]:N0}, {f["tokens_per_second_largest"]:N0}], "
                + $"{f["milliseconds_per_step"]:0.000} ms a step{gpu} "
                + $"(first run: {f["tokens_per_second_first_run"]:N0})"
        );
    }

    private static EngineRun RunAll(Engine engine, GenerationRequest[] all)
    {
        engine.ResetPrefixCache();
        long tokens = 0;
        var before = engine.Statistics;
        long start = Stopwatch.GetTimestamp();
        engine.Submit(all, onCompletion: c => tokens += c.Tokens.Length);
        while (engine.Step()) { }
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;

        var after = engine.Statistics;
        return new()
        {
            Seconds = seconds,
            GpuSeconds = after.GpuSeconds - before.GpuSeconds,
            WaitSeconds = after.WaitSeconds - before.WaitSeconds,
            LaunchSeconds = after.LaunchSeconds - before.LaunchSeconds,
            Tokens = tokens,
            Steps = after.Steps - before.Steps,
        };
    }

    /// <summary>One run of a case's requests.</summary>
    private readonly record struct EngineRun
    {
        public required double Seconds { get; init; }
        public required double GpuSeconds { get; init; }

        /// <summary>Seconds in which the host waited for the GPU.</summary>
        public required double WaitSeconds { get; init; }

        /// <summary>Seconds in which the host launched kernels.</summary>
        public required double LaunchSeconds { get; init; }
        public required long Tokens { get; init; }
        public required long Steps { get; init; }
    }
}
