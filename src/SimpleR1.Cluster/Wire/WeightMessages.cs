namespace SimpleR1.Cluster.Wire;

/// <summary>Announces a weight update to a worker.</summary>
[GenerateSerializer, Immutable]
internal sealed record PrepareMessage
{
    [Id(0)]
    public required string Session { get; init; }

    /// <summary>The update's name, which differs from that of every earlier update.</summary>
    [Id(1)]
    public required string Update { get; init; }

    /// <summary>Version of the weights after the update.</summary>
    [Id(2)]
    public required int Version { get; init; }

    [Id(3)]
    public required OnUpdate OnUpdate { get; init; }

    /// <summary>The engine decodes until the commit, and the weights are received into a second buffer.</summary>
    [Id(4)]
    public required bool Overlap { get; init; }

    /// <summary>How long a paused engine waits for its next order.</summary>
    [Id(5)]
    public required double TimeoutSeconds { get; init; }
}

/// <param name="TakenOver">Another trainer has the worker now; nothing was done.</param>
/// <param name="Version">Version of the weights until the first byte of the next ones arrives; -1 for none.</param>
[GenerateSerializer, Immutable]
internal sealed record PrepareReply([property: Id(0)] bool TakenOver, [property: Id(1)] int Version);

/// <summary>What a worker has received of an update.</summary>
[GenerateSerializer, Immutable]
internal sealed record ReceiptMessage
{
    /// <summary>Version of the weights that arrived; -1 for none.</summary>
    [Id(0)]
    public required int Version { get; init; }

    [Id(1)]
    public ulong Hash { get; init; }

    /// <summary>Seconds from the first byte to the hash of the last.</summary>
    [Id(2)]
    public double Seconds { get; init; }

    /// <summary>The transport that was used, out of those offered.</summary>
    [Id(3)]
    public required string Transport { get; init; }

    /// <summary>Why the weights did not arrive; null when they did.</summary>
    [Id(4)]
    public string? Failure { get; init; }

    /// <summary>Seconds of <see cref="Seconds"/> for the hash after the last byte; 0 where it was computed during the transfer.</summary>
    [Id(5)]
    public double HashSeconds { get; init; }
}

/// <summary>The weights that a worker samples from now.</summary>
/// <param name="PausedSeconds">How long the engine made no step for this update.</param>
[GenerateSerializer, Immutable]
internal sealed record CommitReply(
    [property: Id(0)] int Version,
    [property: Id(1)] ulong Hash,
    [property: Id(2)] double PausedSeconds
);
