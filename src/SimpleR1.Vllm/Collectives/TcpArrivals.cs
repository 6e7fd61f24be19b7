using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Threading.Channels;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Vllm.Collectives;

/// <summary>
/// Processes that connect to rank 0. Each proves itself in its own time and with its own deadline, so that a stranger
/// delays nobody.
/// </summary>
internal sealed class TcpArrivals(byte[] token, ClusterKey? key)
{
    private readonly Channel<TcpPeer> proven = Channel.CreateUnbounded<TcpPeer>();
    private readonly UnprovenConnections unproven = new();
    private int refused;

    /// <summary>Connections that showed no key or token.</summary>
    public int Refused => Volatile.Read(ref refused);

    public ValueTask<TcpPeer> NextAsync(CancellationToken cancellation) => proven.Reader.ReadAsync(cancellation);

    /// <summary>Accepts connections until cancelled.</summary>
    public Task AcceptAsync(TcpListener listener, CancellationToken cancellation) =>
        new AcceptLoop("a group's port for weights", _ => { }).RunAsync(
            listener.AcceptSocketAsync,
            socket => _ = Task.Run(() => ProveAsync(socket, cancellation), CancellationToken.None),
            cancellation
        );

    private async Task ProveAsync(Socket socket, CancellationToken cancellation)
    {
        using var visit = unproven.Enter(socket.RemoteEndPoint, socket.Dispose);
        Stream stream = new NetworkStream(socket, ownsSocket: true);
        try
        {
            using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
            deadline.CancelAfter(TcpCollectives.HandshakeTimeout);
            if (key is not null)
                stream = await key.SecureAcceptedAsync(socket, deadline.Token);
            byte[] shown = new byte[token.Length];
            await stream.ReadExactlyAsync(shown, deadline.Token);
            if (!CryptographicOperations.FixedTimeEquals(shown, token))
                throw new AuthenticationException();
            if (proven.Writer.TryWrite(new(socket, stream)))
                return; // otherwise the group has formed without it
        }
        catch (Exception e) when (IsRefusal(e))
        {
            if (!cancellation.IsCancellationRequested)
                Interlocked.Increment(ref refused);
        }
        socket.Dispose();
        await stream.DisposeAsync();
    }

    private static bool IsRefusal(Exception e) =>
        e
            is AuthenticationException
                or IOException
                or SocketException
                or OperationCanceledException
                or ObjectDisposedException;

    /// <summary>Closes the connections that come too late.</summary>
    public void Close()
    {
        proven.Writer.TryComplete();
        while (proven.Reader.TryRead(out var late))
            late.Dispose();
    }
}
