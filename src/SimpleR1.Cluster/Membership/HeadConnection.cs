using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;
using SimpleR1.Cluster.Head;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Cluster.Membership;

/// <summary>How to reach a head.</summary>
/// <param name="Join">HOST:PORT; the name is looked up at each attempt, for a restarted head may have another address.</param>
public sealed record HeadAddress(string Join, ClusterKey? Key)
{
    /// <exception cref="ArgumentException">It is no HOST:PORT.</exception>
    internal (string Host, int Port) Parse() =>
        Join.LastIndexOf(':') is > 0 and var colon
        && int.TryParse(Join.AsSpan(colon + 1), out int port)
        && port is > 0 and <= ushort.MaxValue
            ? (Join[..colon].Trim('[', ']'), port)
            : throw new ArgumentException($"--join: expected HOST:PORT of a head, found '{Join}'");
}

/// <summary>One connection to the head, after its welcome.</summary>
internal sealed class HeadConnection : IAsyncDisposable
{
    private readonly string join;
    private readonly FrameStream frames;

    private HeadConnection(string join, FrameStream frames, WelcomeMessage welcome, IPAddress localAddress)
    {
        (this.join, this.frames) = (join, frames);
        (Welcome, LocalAddress) = (welcome, localAddress);
    }

    public WelcomeMessage Welcome { get; }

    /// <summary>This machine's address on the way to the head, by which others of the cluster reach it.</summary>
    public IPAddress LocalAddress { get; }

    /// <exception cref="IOException">There is no head, or it has another key; says which.</exception>
    /// <exception cref="TimeoutException">It doesn't answer.</exception>
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
            await socket.ConnectAsync(host, port, deadline.Token);
            connected = true;
            Stream stream = new NetworkStream(socket, ownsSocket: true);
            if (address.Key is { } key)
                stream = await key.SecureOpenedAsync(stream, deadline.Token);
            var frames = new FrameStream(stream);
            await frames.SendAsync(hello, deadline.Token);
            var welcome = await frames.ReceiveAsync<WelcomeMessage>(deadline.Token);
            var local = ((IPEndPoint)socket.LocalEndPoint!).Address;
            return new(address.Join, frames, welcome, local.IsIPv4MappedToIPv6 ? local.MapToIPv4() : local);
        }
        catch (Exception e)
        {
            socket.Dispose();
            throw e switch
            {
                OperationCanceledException when !cancellation.IsCancellationRequested => new TimeoutException(
                    $"Waited {timeout.TotalSeconds:0.#} s for the head at {address.Join} to answer"
                ),
                AuthenticationException => new IOException(
                    $"The head at {address.Join} did not prove that it has this cluster's key; give both the same --key",
                    e
                ),
                SocketException when !connected => new IOException(
                    $"No head answers at {address.Join} ({e.Message})",
                    e
                ),
                IOException or InvalidDataException or SocketException when connected => new IOException(
                    $"The head at {address.Join} closed the connection instead of welcoming this process: "
                        + (
                            address.Key is null
                                ? "it has a cluster key; give the same one with --key"
                                : "its key differs, or it has none"
                        ),
                    e
                ),
                _ => e,
            };
        }
    }

    /// <exception cref="IOException">The head is gone.</exception>
    /// <exception cref="TimeoutException">It doesn't answer.</exception>
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
            throw new IOException($"The connection to the head at {join} broke off", e);
        }
    }

    public ValueTask DisposeAsync() => frames.DisposeAsync();
}

/// <summary>What a person asks a cluster.</summary>
public static class ClusterClient
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    /// <exception cref="IOException">There is no head, or it has another key.</exception>
    public static async Task<ClusterStatus> StatusAsync(HeadAddress head, CancellationToken cancellation)
    {
        await using var connection = await HeadConnection.ConnectAsync(
            head,
            HelloMessage.Observer(),
            Patience,
            cancellation
        );
        return (await connection.AskAsync(new(HeadAsk.Status), Patience, cancellation)).Status
            ?? throw new InvalidDataException("The head answered without a status; is it of another version?");
    }

    /// <summary>Asks a worker to take no more work, finish what it has, and leave.</summary>
    /// <exception cref="ArgumentException">There is no such worker; names those there are.</exception>
    public static async Task DrainAsync(HeadAddress head, string worker, CancellationToken cancellation)
    {
        await using var connection = await HeadConnection.ConnectAsync(
            head,
            HelloMessage.Observer(),
            Patience,
            cancellation
        );
        if ((await connection.AskAsync(new(HeadAsk.Drain, Worker: worker), Patience, cancellation)).Error is { } error)
            throw new ArgumentException(error);
    }
}
