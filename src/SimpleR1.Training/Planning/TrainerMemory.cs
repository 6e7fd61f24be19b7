using SimpleR1.Models;
using SimpleR1.Tensors.Operands;
using SimpleR1.Training.Policy;

namespace SimpleR1.Training.Planning;

/// <summary>Memory and disk that training a model takes, known before the model is loaded.</summary>
internal sealed record TrainerMemory
{
    private const int StateBytes = 16; // a weight with what makes it exact, its gradient and two moments
    private const int CheckpointBytes = 12; // an f32 weight and two moments
    private const int MostGpuTokens = 32_768; // more tokens make no product faster
    private const int LeastGpuTokens = 256;
    private const double Usable = 0.9; // of a GPU; the rest is for the driver, libraries and kernels
    private const double UsableNow = 0.95; // of what other processes leave

    private TrainerMemory(WeightLayout layout, TrainerDevice device, MicroBatchOptions options)
    {
        Layout = layout;
        Device = device;
        Checkpointing = options.GradientCheckpointing;
        Reference = options.KeepsReference ? layout.Length * device.Type.Bytes : 0;
    }

    public WeightLayout Layout { get; }
    public TrainerDevice Device { get; }
    public bool Checkpointing { get; }

    /// <summary>Packed tokens that are computed at once.</summary>
    public int TokensPerMicroBatch { get; private init; }

    /// <summary>Bytes of weights, gradient and moments.</summary>
    public long State => Layout.Length * StateBytes;

    /// <summary>Bytes of the frozen first weights; 0 without a KL term.</summary>
    public long Reference { get; }

    /// <summary>Most bytes of a micro-batch's activations.</summary>
    public long Activations => ActivationsOf(TokensPerMicroBatch);

    /// <summary>Bytes of a checkpoint's files.</summary>
    public long Checkpoint => Layout.Length * CheckpointBytes;

    public HeadMemory Head => Device.IsGpu ? HeadMemory.Gpu : HeadMemory.Cpu;

    /// <summary>Bytes of a device that a run may take; without limit on a CPU.</summary>
    public static long FreeOn(TrainerDevice device)
    {
        if (device.Open() is not { } gpu)
            return long.MaxValue;
        var (free, total) = gpu.FreeMemory();
        return (long)Math.Min(total * Usable, free * UsableNow);
    }

    /// <summary>Chooses what the options leave open.</summary>
    /// <param name="free">
    /// Bytes of the GPU for the trainer's weights, gradient, moments and activations; ignored for a CPU.
    /// </param>
    /// <exception cref="ArgumentException">The GPU is too small. The message says what to change.</exception>
    public static TrainerMemory Plan(WeightLayout layout, TrainerDevice device, MicroBatchOptions options, long free)
    {
        var plan = new TrainerMemory(layout, device, options);
        if (!device.IsGpu)
            return plan with
            {
                TokensPerMicroBatch = options.Tokens ?? Math.Max(options.CpuTokens, options.LongestSequence),
            };

        long left = free - plan.State - plan.Reference;
        if (left < 0)
            throw new ArgumentException(
                $"weights, gradient and moments need {PlanText.Bytes(plan.State + plan.Reference)}, and {device.Name} has "
                    + $"{PlanText.Bytes(Math.Max(0, free))} for them; use a smaller model or a GPU with more memory"
            );
        var chosen = plan with { TokensPerMicroBatch = options.Tokens ?? plan.Fitting(left, options.LongestSequence) };
        if (chosen.Activations > left)
            throw new ArgumentException(
                $"{chosen.TokensPerMicroBatch:N0} tokens need {PlanText.Bytes(chosen.Activations)} for activations, and "
                    + $"{PlanText.Bytes(left)} of {device.Name} are left for them; {chosen.Advice(options)}"
            );
        return chosen;
    }

    /// <summary>The largest power of two that fits, at least the longest sequence.</summary>
    private int Fitting(long bytes, int longest)
    {
        int tokens = MostGpuTokens;
        while (tokens > LeastGpuTokens && ActivationsOf(tokens) > bytes)
            tokens /= 2;
        return Math.Max(tokens, longest);
    }

    /// <summary>Any token may be trained; a shared prompt's last row predicts one for each sample.</summary>
    private long ActivationsOf(int tokens) =>
        new ActivationMemory
        {
            Config = Layout.Config,
            ElementBytes = Device.Type.Bytes,
            Head = Head,
            Checkpointing = Checkpointing,
        }.Peak(tokens, tokens);

    /// <summary>What to change when a micro-batch does not fit.</summary>
    private string Advice(MicroBatchOptions options) =>
        (options.Tokens > options.LongestSequence, Checkpointing) switch
        {
            (true, false) => "lower training.tokens_per_micro_batch or set training.gradient_checkpointing",
            (true, true) => "lower training.tokens_per_micro_batch",
            (false, false) => "set training.gradient_checkpointing, or allow shorter sequences only",
            (false, true) => "allow shorter sequences only, or use a GPU with more memory",
        };

    /// <summary>The trainer's memory in words.</summary>
    public string Describe() =>
        $"{Device.Name}, {Device.Type.Name}: {PlanText.Bytes(State)} for weights, gradient and moments"
        + (Reference > 0 ? $", {PlanText.Bytes(Reference)} for the frozen reference" : "")
        + $", {(Device.IsGpu ? "up to" : "about")} {PlanText.Bytes(Activations)} for activations of "
        + $"{TokensPerMicroBatch:N0} tokens"
        + (Checkpointing ? ", layers checkpointed" : "");
}
