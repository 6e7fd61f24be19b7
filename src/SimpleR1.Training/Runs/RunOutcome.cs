using SimpleR1.Training.Runs.Evaluations;

namespace SimpleR1.Training.Runs;

/// <summary>How a run ended.</summary>
public sealed record RunOutcome
{
    /// <summary>Evaluation before the first step; null when there is none.</summary>
    public required Evaluation? Before { get; init; }

    /// <summary>Evaluation after the last step; null when there is none.</summary>
    public required Evaluation? After { get; init; }

    /// <summary>The best checkpoint; null when the recipe keeps none, or no trained one was evaluated.</summary>
    public BestCheckpoint? Best { get; init; }

    /// <summary>Folder of the best checkpoint.</summary>
    public string? BestFolder { get; init; }

    /// <summary>Steps finished.</summary>
    public required int Step { get; init; }

    /// <summary>True when steps or the last evaluation are missing.</summary>
    public required bool Interrupted { get; init; }
    public required double Seconds { get; init; }

    /// <summary>What the run wrote, relative to the working directory when it is inside.</summary>
    public required IReadOnlyList<string> Files { get; init; }

    /// <summary>
    /// Largest resident set of each process, and most activations of a trainer on a GPU, in bytes.
    /// </summary>
    public required IReadOnlyList<(string Part, long Bytes)> PeakMemory { get; init; }
}
