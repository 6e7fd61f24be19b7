using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;
using SimpleR1.Cluster.Membership;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Cluster.Head;

/// <summary>
/// The head's one port: welcomes workers and trainers, lets them join one after another, takes their reports, and answers what people ask.
/// A connection that ends says that its process is gone sooner than any probe could.
/// </summary>
internal sealed class HeadServer : IAsyncDisposable
{
    private const int MaxConnections = 4096;
    private static readonly TimeSpan HandshakeTimeout = TimeSpan.FromSeconds(10),
        IdleTimeout = TimeSpan.FromSeconds(10),
        TurnTimeout = TimeSpan.FromSeconds(40),
        ReturnTimeout = TimeSpan.FromSeconds(3);

    private readonly TcpListener listener;
    private readonly ClusterKey? key;
    private readonly Roster roster;
    private readonly CancellationTokenSource stopping = new();
    private readonly SemaphoreSlim turn = new(1, 1); // the membership table makes those that write to it at the same time wait for seconds
    private readonly Lock gate = new();
    private readonly HashSet<Task> serving = [];

    private HeadServer(TcpListener listener, ClusterKey? key, Roster roster) =>
        (this.listener, this.key, this.roster) = (listener, key, roster);

    public IPEndPoint Endpoint => (IPEndPoint)listener.LocalEndpoint;

    /// <summary>The answer to those who may join. Set it before <see cref="Open"/>.</summary>
    public required Func<WelcomeMessage> Welcome { get; init; }
    public required Func<ClusterStatus> Status { get; init; }

    /// <summary>A member's connection ended and it did not come back: its process is gone, or unreachable.</summary>
    public required Action<HelloMessage> Lost { get; init; }
    public required Action<string> Say { get; init; }

    /// <exception cref="IOException">The port is taken; says which, and what to do.</exception>
    public static HeadServer Bind(
        IPEndPoint endpoint,
        ClusterKey? key,
        Roster roster,
        Func<WelcomeMessage> welcome,
        Func<ClusterStatus> status,
        Action<HelloMessage> lost,
        Action<string> say
    )
    {
        var listener = new TcpListener(endpoint);
        try
        {
            listener.Start();
        }
        catch (SocketException e)
        {
            throw new IOException(
                $"Port {endpoint.Port} of the cluster's head {(e.SocketErrorCode == SocketError.AddressAlreadyInUse ? "is taken" : "can't be used")} on {endpoint.Address} ({e.Message}). Set the cluster's port to another one, or to 0 for any free port.",
                e
            );
        }
        return new(listener, key, roster)
        {
            Welcome = welcome,
            Status = status,
            Lost = lost,
            Say = say,
        };
    }

    /// <summary>Begins to answer.</summary>
    public void Open() => _ = AcceptAsync();

    private async Task AcceptAsync()
    {
        while (true)
        {
            Socket socket;
            try
            {
                socket = await listener.AcceptSocketAsync(stopping.Token);
            }
            catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException)
            {
                return;
            }
            catch (SocketException)
            {
                continue;
            } // that one was gone again
            lock (gate)
            {
                if (serving.Count >= MaxConnections)
                    socket.Dispose();
                else
                {
                    var task = Task.Run(() => ServeAsync(socket));
                    serving.Add(task);
                    _ = task.ContinueWith(
                        t =>
                        {
                            lock (gate)
                                serving.Remove(t);
                        },
                        TaskScheduler.Default
                    );
                }
            }
        }
    }

    private async Task ServeAsync(Socket socket)
    {
        HelloMessage? member = null;
        byte[] first = new byte[1];
        string peer = socket.RemoteEndPoint?.ToString() ?? "a closed connection";
        try
        {
            socket.NoDelay = true;
            using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stopping.Token);
            deadline.CancelAfter(HandshakeTimeout);
            Stream stream = new NetworkStream(socket, ownsSocket: true);
            if (key is not null)
            {
                ClusterKey.RequireTls(
                    first.AsSpan(0, await socket.ReceiveAsync(first, SocketFlags.Peek, deadline.Token))
                );
                stream = await key.SecureAcceptedAsync(stream, deadline.Token);
            }
            await using var frames = new FrameStream(stream);
            var hello = await frames.ReceiveAsync<HelloMessage>(deadline.Token);
            HelloMessage? replaced = null;
            string? refused = hello.Problem() ?? roster.Add(hello, out replaced);
            await frames.SendAsync(
                refused is null ? Welcome() : Welcome() with { Refused = refused, Redis = null },
                deadline.Token
            );
            if (refused is not null)
                return;
            if (replaced is not null)
                Lost(replaced);
            if (hello.Role != MemberRole.Observer)
                member = hello;
            await AnswerAsync(frames, hello);
        }
        catch (AuthenticationException)
        {
            Say($"a connection from {peer} was refused: it has not this cluster's key");
        }
        catch (Exception e)
            when (e
                    is IOException
                        or InvalidDataException
                        or SocketException
                        or OperationCanceledException
                        or ObjectDisposedException
            ) { } // gone, silent, or no member: all the same here
        finally
        {
            socket.Dispose();
        }
        if (member is not null && !stopping.IsCancellationRequested)
            await MissAsync(member);
    }

    private async Task AnswerAsync(FrameStream frames, HelloMessage hello)
    {
        bool holdsTurn = false;
        try
        {
            while (true)
            {
                HeadRequest request;
                using (var idle = Within(holdsTurn ? TurnTimeout : IdleTimeout))
                    request = await frames.ReceiveAsync<HeadRequest>(idle.Token);
                if (holdsTurn)
                    turn.Release();
                holdsTurn = false;
                if (request.Ask == HeadAsk.Turn)
                {
                    await turn.WaitAsync(stopping.Token); // as long as it takes: those before it have a deadline
                    holdsTurn = true;
                }
                using (var sending = Within(IdleTimeout))
                    await frames.SendAsync(Answer(request, hello), sending.Token);
                if (request.Trainer is not null)
                    foreach (var worker in roster.Condemned())
                        Lost(worker); // its process ends when it learns of it
            }
        }
        finally
        {
            if (holdsTurn)
                turn.Release();
        }
    }

    private CancellationTokenSource Within(TimeSpan time)
    {
        var deadline = CancellationTokenSource.CreateLinkedTokenSource(stopping.Token);
        deadline.CancelAfter(time);
        return deadline;
    }

    private HeadReply Answer(HeadRequest request, HelloMessage hello) =>
        request.Ask switch
        {
            HeadAsk.Report => roster.Heard(hello, request.Report, request.Trainer) is { } drain
                ? new(Drain: drain)
                : new(Error: "the head does not know this process; say hello again"),
            HeadAsk.Status => new(Status: Status()),
            HeadAsk.Drain => new(Error: roster.Drain(request.Worker ?? "")),
            HeadAsk.Turn or HeadAsk.Joined => new(),
            _ => new(Error: $"the head doesn't know the question {request.Ask}"),
        };

    /// <summary>A member may connect again: it only lost this connection. One that doesn't is gone.</summary>
    private async Task MissAsync(HelloMessage member)
    {
        roster.Disconnected(member);
        try
        {
            await Task.Delay(ReturnTimeout, stopping.Token);
        }
        catch (OperationCanceledException)
        {
            return;
        }
        if (roster.Forget(member))
            Lost(member);
    }

    public async ValueTask DisposeAsync()
    {
        stopping.Cancel();
        listener.Dispose();
        Task[] open;
        lock (gate)
            open = [.. serving];
        await Task.WhenAll(open);
    }
}
