namespace SimpleR1.Training.Planning;

/// <summary>What a recipe says about micro-batches, and what bounds them.</summary>
internal sealed record MicroBatchOptions
{
    /// <summary>Packed tokens that are computed at once; null to choose them.</summary>
    public required int? Tokens { get; init; }

    /// <summary>Layers keep only their input.</summary>
    public required bool GradientCheckpointing { get; init; }

    /// <summary>Tokens on a CPU where they are not chosen otherwise.</summary>
    public required int CpuTokens { get; init; }

    /// <summary>A micro-batch holds at least one such sequence.</summary>
    public required int LongestSequence { get; init; }

    /// <summary>The first weights stay in memory, for a KL term.</summary>
    public bool KeepsReference { get; init; }
}
