using System.Buffers.Binary;
using System.Text.Json;

namespace SimpleR1.Cluster.Wire;

/// <summary>
/// Frames on a connection between the head and others: int32 length, then JSON of the one type that may come at this point.
/// The length is big-endian, so that TLS or HTTP that comes here by mistake is too long at once.
/// The types are fixed and closed; nothing on the wire names a type.
/// </summary>
internal sealed class FrameStream(Stream stream) : IAsyncDisposable
{
    private const int MaxBytes = 1 << 20;

    public async Task SendAsync<T>(T value, CancellationToken cancellation)
    {
        byte[] json = JsonSerializer.SerializeToUtf8Bytes(value, WireFormat.Json);
        byte[] frame = new byte[sizeof(int) + json.Length];
        BinaryPrimitives.WriteInt32BigEndian(frame, json.Length);
        json.CopyTo(frame, sizeof(int));

        await stream.WriteAsync(frame, cancellation);
        await stream.FlushAsync(cancellation);
    }

    /// <exception cref="EndOfStreamException">The other end has closed the connection.</exception>
    /// <exception cref="InvalidDataException">The bytes are no such frame.</exception>
    public async Task<T> ReceiveAsync<T>(CancellationToken cancellation)
        where T : class
    {
        byte[] header = new byte[sizeof(int)];
        await stream.ReadExactlyAsync(header, cancellation);
        int length = BinaryPrimitives.ReadInt32BigEndian(header);
        if (length is <= 0 or > MaxBytes)
            throw new InvalidDataException($"expected a frame of 1 to {MaxBytes} bytes, found the length {length}");

        byte[] json = new byte[length];
        await stream.ReadExactlyAsync(json, cancellation);
        try
        {
            return JsonSerializer.Deserialize<T>(json, WireFormat.Json)
                ?? throw new InvalidDataException($"expected a {typeof(T).Name}, found null");
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"expected a {typeof(T).Name}: {e.Message}", e);
        }
    }

    public ValueTask DisposeAsync() => stream.DisposeAsync();
}
