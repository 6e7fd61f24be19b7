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
    private const int MaxArriving = 1024; // connections that have not proven themselves yet

    private readonly Channel<TcpPeer> proven = Channel.CreateUnbounded<TcpPeer>();
    private int arriving;
    private int refused;

    /// <summary>Connections that showed no key or token.</summary>
    public int Refused => Volatile.Read(ref refused);

    public ValueTask<TcpPeer> NextAsync(CancellationToken cancellation) => proven.Reader.ReadAsync(cancellation);

    /// <summary>Accepts connections until cancelled.</summary>
    public async Task AcceptAsync(TcpListener listener, CancellationToken cancellation)
    {
        while (true)
        {
            Socket socket;
            try
            {
                socket = await listener.AcceptSocketAsync(cancellation);
            }
            catch (Exception e) when (e is OperationCanceledException or InvalidOperationException)
            {
                return; // the latter: disposed
            }
            catch (SocketException)
            {
                continue; // the connection was closed before it was accepted
            }

            if (Volatile.Read(ref arriving) < MaxArriving)
                _ = ProveAsync(socket, cancellation);
            else
                socket.Dispose();
        }
    }

    private async Task ProveAsync(Socket socket, CancellationToken cancellation)
    {
        Interlocked.Increment(ref arriving);
        Stream stream = new NetworkStream(socket, ownsSocket: true);
        try
        {
            using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
            deadline.CancelAfter(TcpCollectives.HandshakeTimeout);
            if (key is not null)
                stream = await key.SecureAcceptedAsync(stream, deadline.Token);
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
        finally
        {
            Interlocked.Decrement(ref arriving);
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
