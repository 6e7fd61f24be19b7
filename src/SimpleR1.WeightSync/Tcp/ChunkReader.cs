using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.WeightSync.Tcp;

/// <summary>Receives chunks by one connection of its own.</summary>
/// <param name="timeout">Longest wait for the connection, and for progress.</param>
internal sealed class ChunkReader(ChunkWriter writer, WeightInvitation invitation, ClusterKey? key, TimeSpan timeout)
{
    private const int TriesPerChunk = 3;

    private readonly BroadcastPlan plan = invitation.Plan;
    private readonly string sender = invitation.Address.Split('/')[0];
    private readonly string token = invitation.Address.Split('/')[1];

    /// <summary>Connects and receives these chunks; damaged ones are requested again, one by one.</summary>
    /// <param name="held">Hash of the weights that the receiver holds; 0 where it is unknown.</param>
    /// <exception cref="IOException">The connection was lost, or a chunk was damaged each time.</exception>
    public void Fetch(ChunkRequest share, ulong held, CancellationToken cancellation)
    {
        using var stream = Connect(IPEndPoint.Parse(sender), cancellation);
        using var cancelled = cancellation.Register(stream.Dispose);
        using var written = writer.Begin();

        Span<byte> hello = stackalloc byte[TcpWire.HelloBytes];
        new Hello(Convert.FromHexString(token), held).Write(hello);
        TcpWire.Send(stream, hello, sender);

        List<ChunkRequest> waiting = [share];
        for (int attempt = 1; waiting.Count > 0; attempt++)
        {
            var damaged = new List<ChunkRequest>();
            foreach (var request in waiting)
            {
                Request(stream, request);
                for (int index = request.First; index < request.First + request.Count; index++)
                    if (!Take(stream, index))
                        damaged.Add(new(index, 1));
            }
            if (damaged.Count > 0 && attempt == TriesPerChunk)
                throw new IOException($"Damaged {TriesPerChunk} times: {Awaited(damaged[0].First)}");
            waiting = damaged;
        }
        Request(stream, new(0, 0));
    }

    private void Request(Stream stream, ChunkRequest request)
    {
        Span<byte> bytes = stackalloc byte[TcpWire.RequestBytes];
        request.Write(bytes);
        TcpWire.Send(stream, bytes, sender);
    }

    /// <summary>Receives one chunk.</summary>
    /// <returns>False when it was damaged in transit, and was not written.</returns>
    private bool Take(Stream stream, int index)
    {
        var (offset, length) = plan.Chunk(index);
        string awaited = Awaited(index);
        Span<byte> bytes = stackalloc byte[TcpWire.HeaderBytes];
        TcpWire.ReadExactly(stream, bytes, awaited, timeout);

        // The header says whether the whole chunk follows, or a delta that is shorter.
        var header = ChunkHeader.Read(bytes);
        bool whole = header.WireLength == length;
        bool isDelta = header.WireLength <= 0 && header.DeltaLength >= 0 && header.DeltaLength < length;
        if (header.Index != index || !whole && !isDelta)
            throw new IOException(
                $"Expected {awaited} ({length} bytes), found chunk {header.Index + 1} ({header.WireLength} bytes): "
                    + "the stream is out of step"
            );

        // As much is read at once as there is: smaller pieces cost more waiting than the cache saves.
        var room = whole ? writer.Room(offset, length) : writer.DeltaRoom(header.DeltaLength);
        TcpWire.ReadExactly(stream, room, awaited, timeout);
        ulong sum = TcpWire.Checksum(room, whole ? offset : 0);
        if (sum != header.Checksum)
            return false;

        if (whole)
            writer.Write(offset, length, sum);
        else
            writer.WriteDelta(offset, length, header.DeltaLength);
        return true;
    }

    private string Awaited(int index) =>
        $"chunk {index + 1} of {plan.Chunks} of weights version {plan.Version} from {sender}";

    private Stream Connect(IPEndPoint endpoint, CancellationToken cancellation)
    {
        var socket = new Socket(endpoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        deadline.CancelAfter(timeout);
        try
        {
            using var late = deadline.Token.Register(socket.Dispose);
            // Synchronously: a socket that was once used asynchronously waits for each piece
            // by way of the runtime's event thread.
            socket.Connect(endpoint);
            socket.SendTimeout = socket.ReceiveTimeout = (int)timeout.TotalMilliseconds;
            var stream = new NetworkStream(socket, ownsSocket: true);
            return key is null ? stream : key.SecureOpened(stream);
        }
        catch (Exception e)
        {
            socket.Dispose();
            if (e is AuthenticationException)
                throw new IOException(
                    $"The trainer's weights at {sender} are not those of this cluster: its key differs, or it has none",
                    e
                );
            if (cancellation.IsCancellationRequested)
                throw new OperationCanceledException(
                    $"Connecting to the trainer's weights at {sender} was cancelled",
                    e,
                    cancellation
                );
            if (deadline.IsCancellationRequested)
                throw new TimeoutException(
                    $"Waited {timeout.TotalSeconds:0.#} s for a connection to the trainer's weights at {sender}",
                    e
                );
            throw new IOException($"No connection to the trainer's weights at {sender}: {e.Message}", e);
        }
    }
}
