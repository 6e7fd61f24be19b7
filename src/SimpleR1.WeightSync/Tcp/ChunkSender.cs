using SimpleR1.Models.Checkpoints;

namespace SimpleR1.WeightSync.Tcp;

/// <summary>
/// Sends an offer's chunks by one connection: as deltas, as they are, or converted to the receiver's type.
/// </summary>
/// <param name="sendsDeltas">Whether the receiver holds the base of the offer's deltas.</param>
/// <param name="count">Counts bytes of weights that are about to be sent.</param>
internal sealed unsafe class ChunkSender(
    Stream stream,
    TcpOffer offer,
    bool sendsDeltas,
    string receiver,
    Action<long> count
)
{
    private readonly byte[] converted =
        offer.Plan.SourceType == offer.Plan.ElementType ? [] : new byte[offer.Plan.ChunkBytes];

    /// <exception cref="ArgumentOutOfRangeException">The plan has no such chunk.</exception>
    /// <exception cref="IOException">The connection was lost.</exception>
    public void Send(int index)
    {
        var (offset, length) = offer.Plan.Chunk(index);
        byte[]? delta = sendsDeltas ? offer.Deltas!.Chunks[index] : null;
        var data = delta is null ? Whole(offset, length) : delta;
        ulong sum = delta is null ? WholeSum(index, data, offset) : TcpWire.Checksum(data, 0);

        int wireLength = delta is null ? length : ChunkHeader.WireLengthOfDelta(delta.Length);
        Span<byte> header = stackalloc byte[TcpWire.HeaderBytes];
        new ChunkHeader(index, wireLength, sum).Write(header);

        count(data.Length); // before a receiver can have it and report it
        TcpWire.Send(stream, header, receiver);
        TcpWire.Send(stream, data, receiver);
    }

    /// <summary>The chunk in the receiver's type: from where it lies, or converted.</summary>
    private ReadOnlySpan<byte> Whole(long offset, int length)
    {
        if (converted.Length == 0)
            return new((byte*)offer.Memory + offset, length);

        var from = NumberConversion.Of(offer.Plan.SourceType);
        var to = NumberConversion.Of(offer.Plan.ElementType);
        int elements = length / NumberConversion.Size(to);
        byte* source = (byte*)offer.Memory + offset / NumberConversion.Size(to) * NumberConversion.Size(from);
        fixed (byte* room = converted)
            NumberConversion.Convert(source, from, room, to, elements);
        return converted.AsSpan(0, length);
    }

    /// <summary>The checksum of a whole chunk, computed once for all receivers.</summary>
    private ulong WholeSum(int index, ReadOnlySpan<byte> data, long offset)
    {
        if (offer.Sums[index] == 0)
            offer.Sums[index] = TcpWire.Checksum(data, offset);
        return offer.Sums[index];
    }
}
