using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Operands;
using SimpleR1.Training.Algorithms;
using SimpleR1.Training.Policy;
using static TorchSharp.torch;

namespace SimpleR1.Bench.Training;

/// <summary>
/// Seconds of whole optimizer steps on a GPU: forward, GRPO's loss, backward, clipping, AdamW; random tokens, random
/// advantages.
/// </summary>
internal sealed class TrainBenchmark : IDisposable
{
    private const int WarmUpSteps = 2;

    private readonly FlatWeights weights;
    private readonly string model;
    private readonly TrainBenchmarkOptions options;
    private readonly Action<string> log;
    private readonly CudaDevice gpu;
    private readonly DevicePool memory;
    private readonly PolicyModel policy;
    private readonly TrainingSequence[] sequences;
    private readonly float[] advantages; // of each sequence
    private readonly Algorithm algorithm = Grpo.Create();
    private int steps;

    public TrainBenchmark(FlatWeights weights, string model, TrainBenchmarkOptions options, Action<string> log)
    {
        this.weights = weights;
        this.model = model;
        this.options = options;
        this.log = log;
        gpu = weights.Device!;
        var random = new Random(1);
        sequences = [.. Enumerable.Range(0, options.Sequences).Select(_ => Sequence(random))];
        advantages = [.. sequences.Select(_ => (float)(2 * random.NextDouble() - 1))];

        var activations = new ActivationMemory
        {
            Config = weights.Layout.Config,
            ElementBytes = (int)weights.Flat.element_size(),
            Head = HeadMemory.Gpu,
            Checkpointing = options.Checkpointing,
        };
        var batch = PackedBatch.Split(sequences, options.TokensPerMicroBatch).First();
        long tokens = sequences.Take(batch).Sum(s => (long)s.Computed);
        PlannedBytes = activations.Peak(tokens, sequences.Take(batch).Sum(s => (long)s.Trained));
        var optimizer = new Optimizer(weights, new() { LearningRate = 1e-6 });
        memory = new(gpu, PlannedBytes, "lower --tokens-per-micro-batch or set --checkpointing");
        policy = new(
            new(weights),
            optimizer,
            new(options.TokensPerMicroBatch, options.Checkpointing) { Head = HeadMemory.Gpu },
            memory
        );
    }

    /// <summary>Of activations, as predicted.</summary>
    private long PlannedBytes { get; }

    private TrainingSequence Sequence(Random random)
    {
        int[] tokens =
        [
            .. Enumerable.Range(0, options.Length).Select(_ => random.Next(weights.Layout.Config.VocabularySize)),
        ];
        return new(tokens, options.Prompt);
    }

    public BenchmarkResult Run()
    {
        for (int i = 0; i < WarmUpSteps; i++)
            Step();
        memory.ResetPeak();
        double[] seconds = [.. Enumerable.Range(0, options.Repeats).Select(_ => Step()).Order()];

        double median = seconds[seconds.Length / 2];
        long tokens = (long)options.Sequences * options.Length;
        var work = new TrainingWork(weights.Layout, sequences);
        var (free, total) = gpu.FreeMemory();
        var figures = new SortedDictionary<string, double>(StringComparer.Ordinal)
        {
            ["step_seconds"] = median,
            ["least_step_seconds"] = seconds[0],
            ["most_step_seconds"] = seconds[^1],
            ["tokens_per_second"] = tokens / median,
            ["model_tflops_per_second"] = work.ModelFlops / median / 1e12,
            ["activation_peak_gib"] = Gib(memory.PeakBytes),
            ["activation_planned_gib"] = Gib(PlannedBytes),
            ["device_used_gib"] = Gib(total - free),
        };
        log(
            $"train  {options.Sequences} × {options.Length} tokens, {options.Prompt} of them prompt: "
                + $"{1e3 * median:0.0} ms [{1e3 * seconds[0]:0.0}, {1e3 * seconds[^1]:0.0}], "
                + $"{tokens / median:N0} tokens/s, {work.ModelFlops / median / 1e12:0} TFLOP/s of the model"
        );
        log(
            $"       activations {Gib(memory.PeakBytes):0.00} GiB (planned {Gib(PlannedBytes):0.00}), "
                + $"device {Gib(total - free):0.00} GiB"
        );
        return new("train", model, gpu.Name, weights.Flat.dtype.ToString(), figures);
    }

    /// <summary>GPU time by kernel of one step, name, calls, milliseconds.</summary>
    public IReadOnlyList<(string Name, long Calls, double Milliseconds)> Profile()
    {
        for (int i = 0; i < WarmUpSteps; i++)
            Step();
        using var profile = new KernelProfile(gpu);
        gpu.Profile = profile;
        try
        {
            Step();
        }
        finally
        {
            gpu.Profile = null;
        }
        return profile.Result();
    }

    /// <returns>Seconds.</returns>
    private double Step() => policy.Update(sequences, 1, steps++, 1e-6, Loss).Seconds;

    private (Tensor Loss, Dictionary<string, Tensor> Report) Loss(Range range, Tensor logProbs)
    {
        int trained = options.Length - options.Prompt;
        float[] given = [.. advantages.Take(range)];
        var perToken = tensor(given).repeat_interleave(trained);
        return algorithm.Loss(
            new()
            {
                LogProbs = logProbs,
                OldLogProbs = logProbs.detach(),
                EngineLogProbs = logProbs.detach(),
                ReferenceLogProbs = null,
                Advantages = perToken,
                Weights = full_like(perToken, 1f / (trained * options.Sequences)),
                WeightVersions = zeros_like(perToken, dtype: int64),
                Sample = arange(given.Length).repeat_interleave(trained),
                Samples = given.Length,
            }
        );
    }

    private static double Gib(long bytes) => bytes / (double)(1L << 30);

    public void Dispose()
    {
        policy.Dispose();
        memory.Dispose();
    }
}
