using SimpleR1.Models;

namespace SimpleR1.Sync;

/// <summary>
/// What will be sent, as both ends see it. Each end computes its own from its own buffer, and they are compared before the first byte
/// moves: bytes that mean something else at the other end must never arrive in live weights.
/// </summary>
public sealed record BroadcastPlan
{
    /// <summary>Pieces that are checked, and sent again, one by one. Small enough to be hashed while still in the cache.</summary>
    public const int DefaultChunkBytes = 1 << 20;

    /// <summary><see cref="WeightLayout.Fingerprint"/></summary>
    public required string LayoutFingerprint { get; init; }
    /// <summary>Element type of the flat buffer, as libtorch calls it.</summary>
    public required string ElementType { get; init; }
    public required long ByteLength { get; init; }
    public required int ChunkBytes { get; init; }
    /// <summary>The version that the receiver will hold.</summary>
    public required int Version { get; init; }

    public int Chunks => checked((int)((ByteLength + ChunkBytes - 1) / ChunkBytes));

    public static BroadcastPlan For(FlatWeights weights, int version, int chunkBytes = DefaultChunkBytes) => new()
    {
        LayoutFingerprint = weights.Layout.Fingerprint(),
        ElementType = weights.Flat.dtype.ToString(),
        ByteLength = weights.ByteLength,
        ChunkBytes = chunkBytes > 0 && chunkBytes % 8 == 0 ? chunkBytes
            : throw new ArgumentOutOfRangeException(nameof(chunkBytes), chunkBytes, "chunks must be a positive multiple of 8 bytes long"),
        Version = version,
    };

    /// <summary>Where a chunk lies in the buffer, in bytes.</summary>
    public (long Offset, int Length) Chunk(int index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, Chunks);
        long offset = (long)index * ChunkBytes;
        return (offset, (int)Math.Min(ChunkBytes, ByteLength - offset));
    }

    /// <summary>Checks that the receiver's buffer means the same as the sender's.</summary>
    /// <exception cref="InvalidOperationException">It doesn't; says in what, with both values.</exception>
    public void RequireSame(FlatWeights receiver)
    {
        var own = For(receiver, Version, ChunkBytes);
        List<string> differences = [];
        if (own.LayoutFingerprint != LayoutFingerprint)
            differences.Add($"layout (sender {LayoutFingerprint[..12]}…, receiver {own.LayoutFingerprint[..12]}…: another model config)");
        if (own.ElementType != ElementType) differences.Add($"element type (sender {ElementType}, receiver {own.ElementType})");
        if (own.ByteLength != ByteLength) differences.Add($"length (sender {ByteLength:N0} bytes, receiver {own.ByteLength:N0} bytes)");
        if (differences.Count > 0)
            throw new InvalidOperationException($"Weights version {Version} don't fit the receiver's buffer; nothing was sent. They differ in {string.Join(", ", differences)}. "
                + "Start the worker with the trainer's model config.");
    }
}
