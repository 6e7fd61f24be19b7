using SimpleR1.Models;
using SimpleR1.Tensors;
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
    public const int WarmUpSteps = 2;

    private readonly FlatWeights weights;
    private readonly string model;
    private readonly TrainBenchmarkOptions options;
    private readonly Action<string> log;
    private readonly CudaDevice gpu;
    private readonly DevicePool memory;
    private readonly PolicyModel policy;
    private readonly TrainingSequence[] sequences;
    private readonly Tensor advantages; // this and what follows: one for each trained token
    private readonly Tensor shares;
    private readonly Tensor versions;
    private readonly Tensor sample;
    private readonly (Segment[] Segments, int Trained)[] batches;
    private readonly Algorithm algorithm = Grpo.Create();
    private int stepsDone;

    public TrainBenchmark(FlatWeights weights, string model, TrainBenchmarkOptions options, Action<string> log)
    {
        this.weights = weights;
        this.model = model;
        this.options = options;
        this.log = log;
        gpu = weights.Device!;
        CpuParallel.Threads = 1; // as a trainer does
        var random = new Random(1);
        sequences = [.. RandomSequences(random)];
        int trained = options.Length - options.Prompt;
        float[] drawn = [.. sequences.Select(_ => (float)(2 * random.NextDouble() - 1))];
        advantages = tensor(drawn).repeat_interleave(trained).DetachFromDisposeScope();
        shares = full_like(advantages, 1f / (trained * options.Sequences));
        versions = zeros_like(advantages, dtype: int64);
        sample = arange(drawn.Length).repeat_interleave(trained);

        var activations = new ActivationMemory
        {
            Config = weights.Layout.Config,
            ElementBytes = (int)weights.Flat.element_size(),
            Head = HeadMemory.Gpu,
            Checkpointing = options.Checkpointing,
        };
        batches = [.. MicroBatches()];
        PlannedBytes = batches.Max(batch => activations.Peak(batch.Segments[^1].End, batch.Trained));
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

    /// <summary>Groups of sequences that begin with the same tokens.</summary>
    private IEnumerable<TrainingSequence> RandomSequences(Random random)
    {
        int[] prompt = [];
        for (int s = 0; s < options.Sequences; s++)
        {
            if (s % options.Samples == 0)
                prompt = Ids(options.Prompt);
            int[] tokens = [.. prompt, .. Ids(options.Length - options.Prompt)];
            yield return new(tokens, options.Prompt) { Group = s / options.Samples };
        }

        int[] Ids(int count) =>
            [.. Enumerable.Range(0, count).Select(_ => random.Next(weights.Layout.Config.VocabularySize))];
    }

    /// <summary>What a step computes at once.</summary>
    private IEnumerable<(Segment[] Segments, int Trained)> MicroBatches()
    {
        foreach (var range in PackedBatch.Split(sequences, options.TokensPerMicroBatch))
        {
            TrainingSequence[] part = [.. sequences.Take(range)];
            using var batch = new PackedBatch(part);
            yield return (batch.Segments, part.Sum(s => s.Trained));
        }
    }

    /// <summary>Measures steps.</summary>
    public BenchmarkResult Run()
    {
        WarmUp();
        memory.ResetPeak();
        var figures = Figures([.. Enumerable.Range(0, options.Repeats).Select(_ => Step())]);
        Log(figures);
        return new("train", model, gpu.Name, weights.Flat.dtype.ToString(), figures);
    }

    private SortedDictionary<string, double> Figures(UpdateStatistics[] steps)
    {
        double[] seconds = [.. steps.Select(s => s.Seconds).Order()];
        double median = seconds[seconds.Length / 2];
        var work = new TrainingWork(weights.Layout, batches);
        var (free, total) = gpu.FreeMemory();
        return new(StringComparer.Ordinal)
        {
            ["step_seconds"] = median,
            ["least_step_seconds"] = seconds[0],
            ["most_step_seconds"] = seconds[^1],
            ["tokens_per_second"] = steps[0].TokensAsked / median,
            ["computed_tokens_per_second"] = steps[0].Tokens / median,
            ["loss_seconds"] = steps.Average(s => s.LossSeconds),
            ["model_tflops_per_second"] = work.ModelFlops / median / 1e12,
            ["activation_peak_gib"] = Gib(memory.PeakBytes),
            ["activation_planned_gib"] = Gib(PlannedBytes),
            ["device_used_gib"] = Gib(total - free),
        };
    }

    private void Log(SortedDictionary<string, double> figures)
    {
        double Milliseconds(string name) => 1e3 * figures[name];

        log(
            $"train  {options.Sequences} × {options.Length} tokens, {options.Prompt} of them prompt, "
                + $"{options.Samples} samples a prompt: {Milliseconds("step_seconds"):0.0} ms "
                + $"[{Milliseconds("least_step_seconds"):0.0}, {Milliseconds("most_step_seconds"):0.0}]"
        );
        log(
            $"       {figures["tokens_per_second"]:N0} tokens/s asked for, "
                + $"{figures["computed_tokens_per_second"]:N0} computed, "
                + $"{figures["model_tflops_per_second"]:0} TFLOP/s of the model; "
                + $"{Milliseconds("loss_seconds"):0.0} ms for losses on the host"
        );
        log(
            $"       activations {figures["activation_peak_gib"]:0.00} GiB "
                + $"(planned {figures["activation_planned_gib"]:0.00}), device {figures["device_used_gib"]:0.00} GiB"
        );
    }

    /// <summary>GPU time by kernel of one step, name, calls, milliseconds.</summary>
    public IReadOnlyList<(string Name, long Calls, double Milliseconds)> Profile()
    {
        if (stepsDone == 0)
            WarmUp();
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

    private void WarmUp()
    {
        for (int i = 0; i < WarmUpSteps; i++)
            Step();
    }

    /// <summary>GPU time by part of one step: as figures, and as lines for people.</summary>
    /// <param name="figures">Of the steps; takes the parts' milliseconds.</param>
    public void AddParts(SortedDictionary<string, double> figures)
    {
        var parts = TrainingParts.Group(Profile(), weights.Layout.Config);
        double all = Math.Max(double.Epsilon, parts.Sum(p => p.Milliseconds)); // an emulator has no times
        foreach (var (name, calls, milliseconds) in parts)
        {
            figures[$"part_{name}_milliseconds"] = milliseconds;
            log($"       {name, -18} {milliseconds, 8:0.0} ms {100 * milliseconds / all, 5:0.0}% {calls, 9:N0} calls");
        }
        log($"       {"all kernels", -18} {all, 8:0.0} ms of a step of {1e3 * figures["step_seconds"]:0.0} ms");
    }

    private UpdateStatistics Step() => policy.Update(sequences, 1, stepsDone++, 1e-6, Loss);

    private (Tensor Loss, Dictionary<string, Tensor> Report) Loss(Range range, Tensor logProbs)
    {
        int trained = options.Length - options.Prompt;
        int first = range.Start.Value,
            samples = range.End.Value - first;
        Tensor Part(Tensor whole) => whole.narrow(0, (long)first * trained, (long)samples * trained);
        return algorithm.Loss(
            new()
            {
                LogProbs = logProbs,
                OldLogProbs = logProbs.detach(),
                EngineLogProbs = logProbs.detach(),
                ReferenceLogProbs = null,
                Advantages = Part(advantages),
                Weights = Part(shares),
                WeightVersions = Part(versions),
                Sample = Part(sample) - first,
                Samples = samples,
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
