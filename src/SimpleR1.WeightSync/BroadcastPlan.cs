using SimpleR1.Models;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.WeightSync;

/// <summary>The part of the weights that one trainer rank owns and sends, in elements of the flat buffer.</summary>
public sealed record PlanSlice(int Owner, long First, long Length);

/// <summary>
/// What will be sent: pure data, of the layout, the element types and the chunk size alone. Each end computes a plan
/// from its own buffer, and the plans are compared before the first byte moves. Otherwise bytes that mean something
/// else at the other end could arrive in live weights.
/// </summary>
public sealed record BroadcastPlan
{
    /// <summary>
    /// Size of the pieces that are checked, and sent again, one by one: small enough to be hashed while still in the
    /// cache.
    /// </summary>
    public const int DefaultChunkBytes = 1 << 20;

    /// <summary><see cref="WeightLayout.Fingerprint"/></summary>
    public required string LayoutFingerprint { get; init; }

    /// <summary>Element type that the trainer holds.</summary>
    public required ScalarType SourceType { get; init; }

    /// <summary>
    /// Element type that the receiver holds, and that the hash is computed in. Where it differs from
    /// <see cref="SourceType"/>, elements are converted in transit, rounded to nearest.
    /// </summary>
    public required ScalarType ElementType { get; init; }

    /// <summary>Elements of the flat buffer, gaps included.</summary>
    public required long Length { get; init; }

    /// <summary>Length of a chunk in bytes of the receiver's buffer.</summary>
    public required int ChunkBytes { get; init; }

    /// <summary>The version that the receiver will hold.</summary>
    public required int Version { get; init; }

    /// <summary>Trainer ranks that share the sending, each with its own slice.</summary>
    public int Trainers { get; init; } = 1;

    /// <summary>Length of the receiver's buffer in bytes.</summary>
    public long ByteLength => Length * ElementType.ElementSize();
    public int Chunks => checked((int)((ByteLength + ChunkBytes - 1) / ChunkBytes));

    /// <param name="held">Element type that the receivers hold; that of the source by default.</param>
    /// <exception cref="ArgumentOutOfRangeException">
    /// The chunk size is no positive multiple of 8, or no trainer sends.
    /// </exception>
    public static BroadcastPlan For(
        FlatWeights source,
        int version,
        int chunkBytes = DefaultChunkBytes,
        ScalarType? held = null,
        int trainers = 1
    )
    {
        if (chunkBytes <= 0 || chunkBytes % 8 != 0)
            throw new ArgumentOutOfRangeException(
                nameof(chunkBytes),
                chunkBytes,
                "chunks must be a positive multiple of 8 bytes long"
            );
        if (trainers <= 0)
            throw new ArgumentOutOfRangeException(nameof(trainers), trainers, "at least one trainer sends");

        return new()
        {
            LayoutFingerprint = source.Layout.Fingerprint(),
            SourceType = source.Flat.dtype,
            ElementType = held ?? source.Flat.dtype,
            Length = source.Layout.Length,
            ChunkBytes = chunkBytes,
            Version = version,
            Trainers = trainers,
        };
    }

    /// <summary>Offset and length of a chunk in the receiver's buffer, in bytes.</summary>
    public (long Offset, int Length) Chunk(int index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, Chunks);
        long offset = (long)index * ChunkBytes;
        return (offset, (int)Math.Min(ChunkBytes, ByteLength - offset));
    }

    /// <summary>
    /// What each trainer rank sends, in the order of ranks: slices of equal length, multiples of the layout's
    /// alignment. The last slice is the remainder.
    /// </summary>
    public IEnumerable<PlanSlice> Slices()
    {
        long units = (Length + WeightLayout.Alignment - 1) / WeightLayout.Alignment;
        long each = (units + Trainers - 1) / Trainers * WeightLayout.Alignment;
        for (int rank = 0; rank < Trainers; rank++)
        {
            long first = Math.Min(Length, rank * each);
            long end = Math.Min(Length, first + each);
            if (end > first)
                yield return new(rank, first, end - first);
        }
    }

    /// <summary>Checks that the receiver's buffer means the same as the sender's.</summary>
    /// <exception cref="InvalidOperationException">
    /// The buffers differ; the message names the differences, with both values.
    /// </exception>
    public void RequireSame(FlatWeights receiver) => Require(receiver, ElementType, "receiver");

    /// <summary>Checks that the plan was made from the sender's buffer.</summary>
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
                $"The plan of weights version {Version} doesn't fit the {end}'s buffer; nothing was sent. "
                    + $"They differ in {string.Join(", ", differences)}. "
                    + "Start the worker with the trainer's model config."
            );
    }
}
