using System.Buffers.Binary;
using System.Net.Sockets;

namespace SimpleR1.WeightSync.Tcp;

/// <summary>The bytes of a weight transfer by TCP, and how they are read and written.</summary>
/// <remarks>
/// Little-endian. Worker → trainer: 32 bytes of token, uint64 hash of the weights that the worker holds (0: none); then
/// any number of requests (int32 first chunk, int32 count), the last with count 0. Trainer → worker: for each chunk
/// int32 index, int32 length, uint64 checksum of the data, data. The checksum of a chunk is its part of the
/// <see cref="WeightHash"/>, so that one pass over the data gives both; that of other data is their hash. A negative
/// length is that of a <see cref="WeightDelta"/>, which is sent where the trainer keeps the last version and the worker
/// holds it.
/// </remarks>
internal static class TcpWire
{
    public const int TokenBytes = 32;
    public const int HelloBytes = TokenBytes + 8;
    public const int RequestBytes = 8;
    public const int HeaderBytes = 16;

    /// <param name="offset">The chunk's place in the weights in bytes; 0 for other data.</param>
    public static unsafe ulong Checksum(ReadOnlySpan<byte> data, long offset)
    {
        fixed (byte* memory = data)
            return WeightHash.Part((nint)memory, data.Length, offset);
    }

    /// <exception cref="IOException">
    /// The connection was lost, or ended before <paramref name="into"/> was full.
    /// </exception>
    /// <exception cref="TimeoutException">Nothing arrived within the socket's timeout.</exception>
    public static void ReadExactly(Stream stream, Span<byte> into, string awaited, TimeSpan timeout)
    {
        while (into.Length > 0)
        {
            int read;
            try
            {
                read = stream.Read(into);
            }
            catch (IOException e) when (IsTimeout(e))
            {
                throw new TimeoutException($"Waited {timeout.TotalSeconds:0.#} s for {awaited}");
            }
            catch (IOException e)
            {
                throw new IOException($"Lost the connection while waiting for {awaited}: {e.Message}", e);
            }
            if (read == 0)
                throw new IOException(
                    $"The trainer closed the connection before {awaited} was complete "
                        + "(it has ended, or the offer was withdrawn)"
                );
            into = into[read..];
        }
    }

    /// <exception cref="IOException">
    /// The connection was lost, or the peer read nothing within the socket's timeout.
    /// </exception>
    public static void Send(Stream stream, ReadOnlySpan<byte> data, string peer)
    {
        try
        {
            stream.Write(data);
        }
        catch (IOException e)
        {
            throw new IOException($"Sending to {peer} failed: {e.Message}", e);
        }
    }

    private static bool IsTimeout(IOException e) =>
        e.InnerException is SocketException { SocketErrorCode: SocketError.TimedOut or SocketError.WouldBlock };
}

/// <summary>What a worker sends first on a connection.</summary>
/// <param name="token">The offer's secret.</param>
/// <param name="heldHash">Hash of the weights that the worker holds; 0 for none.</param>
internal readonly ref struct Hello(ReadOnlySpan<byte> token, ulong heldHash)
{
    public ReadOnlySpan<byte> Token { get; } = token;
    public ulong HeldHash { get; } = heldHash;

    public void Write(Span<byte> into)
    {
        Token.CopyTo(into);
        BinaryPrimitives.WriteUInt64LittleEndian(into[TcpWire.TokenBytes..], HeldHash);
    }

    public static Hello Read(ReadOnlySpan<byte> bytes) =>
        new(bytes[..TcpWire.TokenBytes], BinaryPrimitives.ReadUInt64LittleEndian(bytes[TcpWire.TokenBytes..]));
}

/// <summary>Chunks that a worker requests; a count of 0 ends the transfer.</summary>
internal readonly record struct ChunkRequest(int First, int Count)
{
    public void Write(Span<byte> into)
    {
        BinaryPrimitives.WriteInt32LittleEndian(into, First);
        BinaryPrimitives.WriteInt32LittleEndian(into[4..], Count);
    }

    public static ChunkRequest Read(ReadOnlySpan<byte> bytes) =>
        new(BinaryPrimitives.ReadInt32LittleEndian(bytes), BinaryPrimitives.ReadInt32LittleEndian(bytes[4..]));
}

/// <summary>What precedes the data of a chunk.</summary>
/// <param name="WireLength">Bytes of a whole chunk, or the negative length of a delta.</param>
internal readonly record struct ChunkHeader(int Index, int WireLength, ulong Checksum)
{
    private const int EmptyDelta = int.MinValue; // has no negative length

    public static int WireLengthOfDelta(int length) => length == 0 ? EmptyDelta : -length;

    /// <summary>Bytes of the delta; negative for a whole chunk.</summary>
    public int DeltaLength => WireLength == EmptyDelta ? 0 : -WireLength;

    public void Write(Span<byte> into)
    {
        BinaryPrimitives.WriteInt32LittleEndian(into, Index);
        BinaryPrimitives.WriteInt32LittleEndian(into[4..], WireLength);
        BinaryPrimitives.WriteUInt64LittleEndian(into[8..], Checksum);
    }

    public static ChunkHeader Read(ReadOnlySpan<byte> bytes) =>
        new(
            BinaryPrimitives.ReadInt32LittleEndian(bytes),
            BinaryPrimitives.ReadInt32LittleEndian(bytes[4..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..])
        );
}
