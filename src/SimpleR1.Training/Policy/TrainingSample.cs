namespace SimpleR1.Training.Policy;

/// <summary>
/// A sample of one optimizer step as the trainer sees it. Every array has one entry per token of the conversation;
/// entries of tokens that are not trained are 0. Weights and advantages are fixed over the whole optimizer step before
/// samples are dealt out to micro-batches, so a micro-batch needs no common denominator.
/// </summary>
public sealed class TrainingSample
{
    private TrainingSequence? sequence;

    public required int[] Tokens { get; init; }

    /// <summary>See <see cref="TrainingSequence.Group"/>.</summary>
    public int? Group { get; init; }

    /// <summary>
    /// How much each token counts in the loss; 0 is not trained. Over an optimizer step they add up to about 1.
    /// </summary>
    public required float[] Weights { get; init; }
    public required float[] Advantages { get; init; }

    /// <summary>As the inference engine reported them while sampling.</summary>
    public required float[] EngineLogProbs { get; init; }

    /// <summary>Under the trainer's weights before the first update; null when there is only one update.</summary>
    public required float[]? OldLogProbs { get; init; }

    /// <summary>Under the frozen reference; null without one.</summary>
    public required float[]? ReferenceLogProbs { get; init; }

    /// <summary>Version of the weights that made each token.</summary>
    public required int[] WeightVersions { get; init; }

    /// <summary>The tokens, those with a weight trained.</summary>
    public TrainingSequence Sequence =>
        sequence ??= new(Tokens, [.. Enumerable.Range(0, Tokens.Length).Where(i => Weights[i] != 0)]) { Group = Group };
}
