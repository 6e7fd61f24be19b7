namespace SimpleR1.Cluster;

/// <summary>A worker as the trainer sees it.</summary>
public sealed record WorkerStatus
{
    /// <summary>From 1; a replacement keeps the number.</summary>
    public int Number { get; init; }
    public string Name { get; init; } = "";

    /// <summary>Differs for each process.</summary>
    public string Instance { get; init; } = "";

    /// <summary>0 before the process has started.</summary>
    public int ProcessId { get; init; }
    public WorkerState State { get; init; }

    /// <summary>Version of the weights that the worker has proven to hold; -1 for none.</summary>
    public int WeightVersion { get; init; }

    /// <summary>Most tokens that the worker's unfinished requests may still take.</summary>
    public long OutstandingTokens { get; init; }

    /// <summary>Tokens generated, over the time in which the worker had work.</summary>
    public double TokensPerSecond { get; init; }

    /// <summary>Most physical memory that a process of this number has held, shared weights included.</summary>
    public long PeakMemoryBytes { get; init; }

    /// <summary>How often the process of this number was replaced.</summary>
    public int Replacements { get; init; }
}
