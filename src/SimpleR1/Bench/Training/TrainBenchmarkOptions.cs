using SimpleR1.Tensors;

namespace SimpleR1.Bench.Training;

/// <summary>What a step of the training benchmark computes, and how often.</summary>
internal sealed record TrainBenchmarkOptions
{
    /// <summary>The number of the GPU.</summary>
    public required int Gpu { get; init; }

    /// <summary>Of weights and activations.</summary>
    public required ElementType Type { get; init; }

    public required int Sequences { get; init; }

    /// <summary>Sequences that follow each other and have the same prompt, which is computed once.</summary>
    public required int Samples { get; init; }

    /// <summary>Tokens of each sequence, prompt included.</summary>
    public required int Length { get; init; }

    /// <summary>Tokens at the beginning of each sequence that are not trained.</summary>
    public required int Prompt { get; init; }
    public required int TokensPerMicroBatch { get; init; }
    public required bool Checkpointing { get; init; }

    /// <summary>Measured steps, after two that warm up.</summary>
    public required int Repeats { get; init; }
}
