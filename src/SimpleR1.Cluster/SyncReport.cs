namespace SimpleR1.Cluster;

/// <summary>
/// One weight update: every worker in <see cref="Workers"/> has proven that it holds exactly these weights.
/// </summary>
public sealed record SyncReport
{
    public required int Version { get; init; }

    /// <summary>
    /// The <see cref="WeightSync.WeightHash"/> of the weights in the workers' element type, the same on trainer and
    /// workers; in that of the first worker, where workers hold several types.
    /// </summary>
    public required ulong Hash { get; init; }

    /// <summary>Length of the weights in bytes, in that element type.</summary>
    public required long Bytes { get; init; }

    /// <summary>Numbers of the workers that hold the weights.</summary>
    public required IReadOnlyList<int> Workers { get; init; }

    /// <summary>Names of the transports used.</summary>
    public required string Transport { get; init; }

    /// <summary>Time until every worker had paused its engine between two steps.</summary>
    public double PrepareSeconds { get; init; }

    /// <summary>Time until the slowest worker had the weights.</summary>
    public double TransferSeconds { get; init; }

    /// <summary>
    /// Time for the rest of the trainer's own hash, which is computed during the transfer, and for repeated transfers.
    /// </summary>
    public double VerifySeconds { get; init; }

    /// <summary>Time until every worker's engine ran again.</summary>
    public double CommitSeconds { get; init; }

    /// <summary>Workers that failed and are being replaced, with the reason.</summary>
    public IReadOnlyList<string> Dropped { get; init; } = [];

    /// <summary>
    /// Bytes of weights sent over TCP to all workers together. Deltas make it less than <see cref="Bytes"/> for each
    /// worker; it is 0 where workers copy shared memory or receive by NCCL.
    /// </summary>
    public long SentBytes { get; init; }

    /// <summary>Longest time that a worker's engine was paused for the update.</summary>
    public double PausedSeconds { get; init; }

    /// <summary>Longest time from the first byte to the hash of the last, as a worker measured it.</summary>
    public double ReceiveSeconds { get; init; }

    /// <summary>
    /// Longest part of that time for a hash after the last byte; 0 where workers hash while bytes arrive.
    /// </summary>
    public double HashSeconds { get; init; }
    public double TotalSeconds => PrepareSeconds + TransferSeconds + VerifySeconds + CommitSeconds;
}
