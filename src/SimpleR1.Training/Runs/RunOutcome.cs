namespace SimpleR1.Training.Runs;

/// <summary>How a run ended.</summary>
public sealed record RunOutcome
{
    /// <summary>Evaluation before the first step; null when there is none.</summary>
    public required Evaluation? Before { get; init; }

    /// <summary>Evaluation after the last step; null when there is none.</summary>
    public required Evaluation? After { get; init; }

    /// <summary>Steps finished.</summary>
    public required int Step { get; init; }

    /// <summary>True when steps or the last evaluation are missing.</summary>
    public required bool Interrupted { get; init; }
    public required double Seconds { get; init; }

    /// <summary>What the run wrote, relative to the working directory when it is inside.</summary>
    public required IReadOnlyList<string> Files { get; init; }

    /// <summary>Largest resident set of each process, in bytes.</summary>
    public required IReadOnlyList<(string Process, long Bytes)> PeakMemory { get; init; }
}
