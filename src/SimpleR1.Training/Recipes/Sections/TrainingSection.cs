using System.ComponentModel;

namespace SimpleR1.Training.Recipes.Sections;

/// <summary>Element types that weights are trained in.</summary>
public enum TrainedType
{
    BF16,
    F32,
}

/// <summary>The <c>training</c> section.</summary>
public sealed record TrainingSection
{
    [Description("Steps of rollouts, update and weight sync.")]
    [Limits(AtLeast = 1)]
    public int Steps { get; init; } = 100;

    [Description("What the trainer computes on: cpu, cuda:N, or auto: the first GPU that is free, else the CPU.")]
    public string Device { get; init; } = "auto";

    [Description(
        "Element type of weights and activations: bf16 on a GPU, where a remainder beside the weights keeps them exact in f32, or "
            + "f32. Without it bf16 on a GPU. A CPU trains in f32."
    )]
    public TrainedType? Type { get; init; }

    [Description(
        "Tokens computed at once; sequences are packed, so none is padding. auto, or without it: 8192 on a CPU, and on a GPU "
            + "what its memory holds, 32768 at most."
    )]
    [Limits(AtLeast = 1)]
    public int? TokensPerMicroBatch { get; init; }

    [Description("Compute layers again in the backward pass instead of keeping their activations.")]
    public bool GradientCheckpointing { get; init; }

    [Description(
        "Compute no sample whose advantages are all 0, if the algorithm says that it adds nothing to the gradient (GRPO and "
            + "GSPO without a KL term). Entropy and what the algorithm reports are then of the other samples."
    )]
    public bool SkipZeroAdvantages { get; init; } = true;

    [Description(
        "Compute the prompt of a group's samples once: the same gradient, up to rounding. By default a trainer on a GPU does, "
            + "one on a CPU does not."
    )]
    public bool? SharedPrompts { get; init; }

    [Description(
        "Warns when the mean of |trainer's log-prob - engine's|, in nats a token of the same weights (the metric "
            + "engine_difference), is above this in three steps in a row."
    )]
    [Limits(Above = 0)]
    public double EngineDifferenceAlarm { get; init; } = 0.02;

    [Description("Steps between checkpoints; 0 writes only the last.")]
    [Limits(AtLeast = 0)]
    public int CheckpointEvery { get; init; } = 50;

    [Description("Newest checkpoints kept.")]
    [Limits(AtLeast = 1)]
    public int KeepCheckpoints { get; init; } = 2;

    [Description("Steps between evaluations; 0 evaluates only before and after, if there are held-out problems.")]
    [Limits(AtLeast = 0)]
    public int EvaluateEvery { get; init; }

    [Description("Rollouts written to samples.jsonl in each step.")]
    [Limits(AtLeast = 0)]
    public int SamplesLogged { get; init; } = 4;
}
