using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;
using SimpleR1.Cluster.Wire;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Cluster.Membership;

/// <summary>One connection to the head, after the head's welcome.</summary>
internal sealed class HeadConnection : IAsyncDisposable
{
    private readonly string join;
    private readonly FrameStream frames;

    private HeadConnection(string join, FrameStream frames, WelcomeMessage welcome, IPAddress localAddress)
    {
        this.join = join;
        this.frames = frames;
        Welcome = welcome;
        LocalAddress = localAddress;
    }

    public WelcomeMessage Welcome { get; }

    /// <summary>This machine's address in the head's direction, by which others of the cluster reach it.</summary>
    public IPAddress LocalAddress { get; }

    /// <exception cref="IOException">There is no head, or it has another key; the message says which.</exception>
    /// <exception cref="TimeoutException">The head does not answer.</exception>
    public static async Task<HeadConnection> ConnectAsync(
        HeadAddress address,
        HelloMessage hello,
        TimeSpan timeout,
        CancellationToken cancellation
    )
    {
        var (host, port) = address.Parse();
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        deadline.CancelAfter(timeout);
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        bool connected = false;
        try
        {
            // A connection, inside TLS where there is a key.
            await socket.ConnectAsync(host, port, deadline.Token);
            connected = true;

            Stream stream = new NetworkStream(socket, ownsSocket: true);
            if (address.Key is { } key)
                stream = await key.SecureOpenedAsync(stream, deadline.Token);

            // Hello and welcome.
            var frames = new FrameStream(stream);
            await frames.SendAsync(hello, deadline.Token);
            var welcome = await frames.ReceiveAsync<WelcomeMessage>(deadline.Token);

            var local = ((IPEndPoint)socket.LocalEndPoint!).Address;
            return new(address.Join, frames, welcome, local.IsIPv4MappedToIPv6 ? local.MapToIPv4() : local);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            socket.Dispose();
            throw new TimeoutException($"Waited {timeout.TotalSeconds:0.#} s for the head at {address.Join} to answer");
        }
        catch (Exception e)
        {
            socket.Dispose();
            if (Explain(e, address, connected) is { } explained)
                throw explained;
            throw;
        }
    }

    /// <summary>What a failure to connect means; null where only its own message can say.</summary>
    private static IOException? Explain(Exception e, HeadAddress address, bool connected) =>
        e switch
        {
            AuthenticationException => new HeadRefusedException(
                $"The head at {address.Join} did not prove that it has this cluster's key; give both the same --key",
                e
            ),
            SocketException when !connected => new($"No head answers at {address.Join} ({e.Message})", e),
            IOException or InvalidDataException or SocketException when connected => new HeadRefusedException(
                $"The head at {address.Join} closed the connection instead of welcoming this process: "
                    + KeyAdvice(address.Key),
                e
            )
            {
                IsCertain = false,
            },
            _ => null,
        };

    private static string KeyAdvice(ClusterKey? key) =>
        key is null ? "it has a cluster key; give the same one with --key" : "its key differs, or it has none";

    /// <exception cref="IOException">The head is gone.</exception>
    /// <exception cref="TimeoutException">The head does not answer.</exception>
    public async Task<HeadReply> AskAsync(HeadRequest request, TimeSpan timeout, CancellationToken cancellation)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        deadline.CancelAfter(timeout);
        try
        {
            await frames.SendAsync(request, deadline.Token);
            return await frames.ReceiveAsync<HeadReply>(deadline.Token);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            throw new TimeoutException(
                $"Waited {timeout.TotalSeconds:0.#} s for the head at {join} to answer ({request.Ask})"
            );
        }
        catch (Exception e) when (e is EndOfStreamException or InvalidDataException or SocketException)
        {
            throw new IOException($"The connection to the head at {join} has ended", e);
        }
    }

    public ValueTask DisposeAsync() => frames.DisposeAsync();
}
