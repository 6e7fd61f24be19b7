using SimpleR1.Models;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.WeightSync;

/// <summary>The part of the weights that one trainer rank owns and sends, in elements of the flat buffer.</summary>
public sealed record PlanSlice(int Owner, long First, long Length);

/// <summary>
/// What will be sent, as both ends see it: pure data, of the layout, the element types and the chunk size alone. Each end computes its own from
/// its own buffer, and they are compared before the first byte moves: bytes that mean something else at the other end must never arrive in live weights.
/// </summary>
public sealed record BroadcastPlan
{
    /// <summary>Pieces that are checked, and sent again, one by one. Small enough to be hashed while still in the cache.</summary>
    public const int DefaultChunkBytes = 1 << 20;

    /// <summary><see cref="WeightLayout.Fingerprint"/></summary>
    public required string LayoutFingerprint { get; init; }

    /// <summary>Element type that the trainer holds.</summary>
    public required ScalarType SourceType { get; init; }

    /// <summary>Element type that the receiver holds, and that the hash is of. Where it differs, elements are converted on the way, rounded to nearest.</summary>
    public required ScalarType ElementType { get; init; }

    /// <summary>Elements of the flat buffer, gaps included.</summary>
    public required long Length { get; init; }

    /// <summary>Of the receiver's elements.</summary>
    public required int ChunkBytes { get; init; }

    /// <summary>The version that the receiver will hold.</summary>
    public required int Version { get; init; }

    /// <summary>Trainer ranks that share the sending, each its own slice.</summary>
    public int Trainers { get; init; } = 1;

    /// <summary>Of the receiver's buffer.</summary>
    public long ByteLength => Length * ElementType.ElementSize();
    public int Chunks => checked((int)((ByteLength + ChunkBytes - 1) / ChunkBytes));

    /// <param name="held">What the receivers hold; as the source by default.</param>
    public static BroadcastPlan For(
        FlatWeights source,
        int version,
        int chunkBytes = DefaultChunkBytes,
        ScalarType? held = null,
        int trainers = 1
    ) =>
        new()
        {
            LayoutFingerprint = source.Layout.Fingerprint(),
            SourceType = source.Flat.dtype,
            ElementType = held ?? source.Flat.dtype,
            Length = source.Layout.Length,
            ChunkBytes =
                chunkBytes > 0 && chunkBytes % 8 == 0
                    ? chunkBytes
                    : throw new ArgumentOutOfRangeException(
                        nameof(chunkBytes),
                        chunkBytes,
                        "chunks must be a positive multiple of 8 bytes long"
                    ),
            Version = version,
            Trainers =
                trainers > 0
                    ? trainers
                    : throw new ArgumentOutOfRangeException(nameof(trainers), trainers, "at least one trainer sends"),
        };

    /// <summary>Where a chunk lies in the receiver's buffer, in bytes.</summary>
    public (long Offset, int Length) Chunk(int index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, Chunks);
        long offset = (long)index * ChunkBytes;
        return (offset, (int)Math.Min(ChunkBytes, ByteLength - offset));
    }

    /// <summary>Who sends what, in this order: slices of equal length, whole numbers of the layout's alignment, the last one what is left.</summary>
    public IEnumerable<PlanSlice> Slices()
    {
        long units = (Length + WeightLayout.Alignment - 1) / WeightLayout.Alignment,
            each = (units + Trainers - 1) / Trainers * WeightLayout.Alignment;
        for (int rank = 0; rank < Trainers; rank++)
        {
            long first = Math.Min(Length, rank * each),
                end = Math.Min(Length, first + each);
            if (end > first)
                yield return new(rank, first, end - first);
        }
    }

    /// <summary>Checks that the receiver's buffer means the same as the sender's.</summary>
    /// <exception cref="InvalidOperationException">It doesn't; says in what, with both values.</exception>
    public void RequireSame(FlatWeights receiver) => Require(receiver, ElementType, "receiver");

    /// <summary>Checks that the sender's buffer is what the plan was made of.</summary>
    /// <inheritdoc cref="RequireSame" path="/exception"/>
    public void RequireSource(FlatWeights sender) => Require(sender, SourceType, "sender");

    private void Require(FlatWeights weights, ScalarType type, string end)
    {
        string fingerprint = weights.Layout.Fingerprint();
        List<string> differences = [];
        if (fingerprint != LayoutFingerprint)
            differences.Add(
                $"layout (plan {LayoutFingerprint[..12]}…, {end} {fingerprint[..12]}…: another model config)"
            );
        if (weights.Flat.dtype != type)
            differences.Add($"element type (plan {type}, {end} {weights.Flat.dtype})");
        if (weights.Layout.Length != Length)
            differences.Add(
                $"length (plan {Length * type.ElementSize():N0} bytes, {end} {weights.ByteLength:N0} bytes)"
            );
        if (differences.Count > 0)
            throw new InvalidOperationException(
                $"The plan of weights version {Version} doesn't fit the {end}'s buffer; nothing was sent. They differ in {string.Join(", ", differences)}. "
                    + "Start the worker with the trainer's model config."
            );
    }
}
