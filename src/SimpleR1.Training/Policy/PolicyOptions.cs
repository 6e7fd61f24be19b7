using SimpleR1.Tensors.Operands;
using SimpleR1.Training.Recipes.Sections;

namespace SimpleR1.Training.Policy;

/// <param name="TokensPerMicroBatch">Packed tokens computed at once; bounds the memory of activations.</param>
/// <param name="GradientCheckpointing">
/// Keep only each layer's input: about a quarter of the memory, a third more time.
/// </param>
public sealed record PolicyOptions(int TokensPerMicroBatch, bool GradientCheckpointing = false)
{
    /// <summary>How many logits exist at a time.</summary>
    public HeadMemory Head { get; init; } = HeadMemory.Cpu;
}

/// <summary>How a batch of rollouts becomes updates; see the recipe's <c>algorithm</c> section.</summary>
public sealed record PolicyGradientOptions
{
    /// <summary>Sampling temperature of the rollouts: log-probs are taken under the same distribution.</summary>
    public required double Temperature { get; init; }
    public required int MaxNewTokens { get; init; }
    public LossAverage LossAverage { get; init; } = LossAverage.Token;

    /// <summary>Passes over the rollouts of a step.</summary>
    public int Epochs { get; init; } = 1;

    /// <summary>Optimizer steps in each pass.</summary>
    public int MiniBatches { get; init; } = 1;

    /// <summary>Compute no sample whose advantages are all 0, if the algorithm allows it.</summary>
    public bool SkipZeroAdvantages { get; init; } = true;

    /// <summary>Leave samples that were cut at their length limit out of the loss.</summary>
    public bool MaskTruncated { get; init; }

    /// <summary>Compute the prompt of a group's samples once.</summary>
    public bool SharedPrompts { get; init; }
}
