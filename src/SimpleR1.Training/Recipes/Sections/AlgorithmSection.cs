using System.ComponentModel;
using SimpleR1.Training.Algorithms;

namespace SimpleR1.Training.Recipes.Sections;

/// <summary>What the loss is averaged over.</summary>
public enum LossAverage
{
    Token,
    Sequence,
    ConstantLength,
}

/// <summary>The <c>algorithm</c> section.</summary>
public sealed record AlgorithmSection : IRecipeSection
{
    [Description(AlgorithmRegistry.Description)]
    public string Name { get; init; } = "grpo";

    [Description("Divide a group's advantages by the standard deviation of its rewards (GRPO); false is Dr. GRPO.")]
    public bool NormalizeByStd { get; init; } = true;

    [Description(
        "What the loss is averaged over: all tokens of the step alike, each sequence alike, or tokens over the longest allowed "
            + "length (Dr. GRPO)."
    )]
    public LossAverage LossAverage { get; init; } = LossAverage.Token;

    [Description("The probability ratio is clipped below at 1 - this.")]
    [Limits(Above = 0)]
    public double ClipLow { get; init; } = 0.2;

    [Description("The probability ratio is clipped above at 1 + this; larger than clip_low explores more (DAPO).")]
    [Limits(Above = 0)]
    public double ClipHigh { get; init; } = 0.2;

    [Description("Weight of the KL divergence (k3) to the frozen first model; 0 needs no reference model.")]
    [Limits(AtLeast = 0)]
    public double KlCoefficient { get; init; }

    [Description("Optimizer updates that a step's samples are split into.")]
    [Limits(AtLeast = 1)]
    public int MiniBatches { get; init; } = 1;

    [Description("Passes over a step's samples.")]
    [Limits(AtLeast = 1)]
    public int Epochs { get; init; } = 1;

    [Description(
        "Truncated importance weights between the trainer's and the engine's log-probs are capped here; 0 turns them off."
    )]
    [Limits(AtLeast = 0)]
    public double ImportanceCap { get; init; } = 2;

    [Description(
        "Leave samples that were cut at rollout.max_new_tokens out of the loss (overlong filtering, DAPO); they still count in "
            + "the mean of their group."
    )]
    public bool MaskTruncated { get; init; }

    public IEnumerable<Conflict> Validate()
    {
        if (!AlgorithmRegistry.Names.Contains(Name))
            yield return new(RecipeNames.Unknown("algorithm", Name, AlgorithmRegistry.Names), "name");
        if (ClipLow >= 1)
            yield return new(
                $"a ratio is never below 0, so a lower clip at 1 - {ClipLow} does nothing; use a value below 1",
                "clip_low"
            );
        if (ImportanceCap is > 0 and < 1)
            yield return new(
                "a cap below 1 shrinks the weight of samples that agree exactly; use 0 (off) or at least 1",
                "importance_cap"
            );
    }
}
