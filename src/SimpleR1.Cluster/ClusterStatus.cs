namespace SimpleR1.Cluster;

/// <summary>A cluster as its head sees it.</summary>
/// <param name="Trainer">The trainer that uses the workers; null when there is none.</param>
public sealed record ClusterStatus(
    string Head,
    string Membership,
    double UptimeSeconds,
    TrainerEntry? Trainer,
    IReadOnlyList<WorkerEntry> Workers
);

/// <summary>The trainer in a <see cref="ClusterStatus"/>.</summary>
public sealed record TrainerEntry
{
    public required string Name { get; init; }
    public required string Host { get; init; }
    public required int ProcessId { get; init; }
    public required int WeightVersion { get; init; }

    /// <summary>Samples that wait for a worker with room.</summary>
    public required int Queued { get; init; }

    /// <summary>Seconds since the last sign of life.</summary>
    public required double HeartbeatSeconds { get; init; }
}

/// <summary>A worker in a <see cref="ClusterStatus"/>.</summary>
public sealed record WorkerEntry
{
    public required string Name { get; init; }
    public required string Host { get; init; }
    public required string Device { get; init; }
    public required int ProcessId { get; init; }

    /// <summary>
    /// By the trainer's account where there is one, else by the worker's own; <c>silent</c> when the worker has not reported
    /// for some seconds.
    /// </summary>
    public required string State { get; init; }

    /// <summary>-1 for none.</summary>
    public required int WeightVersion { get; init; }

    /// <summary>Sequences that the engine computes.</summary>
    public required int Running { get; init; }

    /// <summary>Sequences that wait for room in the engine.</summary>
    public required int Waiting { get; init; }

    /// <summary>Most tokens that the worker's unfinished requests may still take.</summary>
    public required long OutstandingTokens { get; init; }
    public required double TokensPerSecond { get; init; }
    public required long MemoryBytes { get; init; }

    /// <summary>Seconds since the last sign of life.</summary>
    public required double HeartbeatSeconds { get; init; }
}
