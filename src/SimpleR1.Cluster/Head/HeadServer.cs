using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;
using SimpleR1.Cluster.Wire;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Cluster.Head;

/// <summary>What the head's port needs of the head.</summary>
internal sealed record HeadServerOptions
{
    public required IPEndPoint Endpoint { get; init; }
    public required ClusterKey? Key { get; init; }
    public required Roster Roster { get; init; }

    /// <summary>Makes the answer to those who may join.</summary>
    public required Func<WelcomeMessage> Welcome { get; init; }
    public required Func<ClusterStatus> Status { get; init; }

    /// <summary>Called when a member's connection ended and it did not connect again: its process is gone, or unreachable.</summary>
    public required Action<HelloMessage> Lost { get; init; }

    /// <summary>Takes one line about each thing a person should know.</summary>
    public required Action<string> Log { get; init; }
}

/// <summary>
/// The head's one port: welcomes workers and trainers, lets them join one after another, takes their reports, and answers
/// people's questions. A connection that ends shows that its process is gone sooner than any probe could.
/// </summary>
internal sealed class HeadServer : IAsyncDisposable
{
    private const int MaxProven = 4096;
    private static readonly TimeSpan HandshakeTimeout = TimeSpan.FromSeconds(10),
        IdleTimeout = TimeSpan.FromSeconds(10),
        TurnTimeout = TimeSpan.FromSeconds(40),
        ReturnTimeout = TimeSpan.FromSeconds(3);

    private readonly TcpListener listener;
    private readonly HeadServerOptions options;
    private readonly Roster roster;
    private readonly CancellationTokenSource stopping = new();
    private readonly Lock gate = new();
    private readonly HashSet<Task> serving = [];
    private readonly UnprovenConnections unproven = new();
    private readonly ThrottledLog refusals;
    private int proven; // connections

    // Processes that write to the membership table at the same time would make each other wait for seconds.
    private readonly SemaphoreSlim turn = new(1, 1);

    private HeadServer(TcpListener listener, HeadServerOptions options)
    {
        this.listener = listener;
        this.options = options;
        roster = options.Roster;
        refusals = new(options.Log);
    }

    public IPEndPoint Endpoint => (IPEndPoint)listener.LocalEndpoint;

    /// <exception cref="IOException">The port is taken; the message says which, and what to do.</exception>
    public static HeadServer Bind(HeadServerOptions options) => new(Listen(options.Endpoint), options);

    /// <inheritdoc cref="Bind" path="/exception"/>
    internal static TcpListener Listen(IPEndPoint endpoint)
    {
        var listener = new TcpListener(endpoint);
        try
        {
            listener.Start();
        }
        catch (SocketException e)
        {
            string problem = e.SocketErrorCode == SocketError.AddressAlreadyInUse ? "is taken" : "can't be used";
            throw new IOException(
                $"Port {endpoint.Port} of the cluster's head {problem} on {endpoint.Address} ({e.Message}). "
                    + "Set the cluster's port to another one, or to 0 for any free port.",
                e
            );
        }

        return listener;
    }

    /// <summary>Begins to answer.</summary>
    public void Open() =>
        _ = new AcceptLoop("the head's port", options.Log).RunAsync(listener.AcceptSocketAsync, Serve, stopping.Token);

    private void Serve(Socket socket)
    {
        Task task;
        lock (gate)
            serving.Add(task = Task.Run(() => ServeAsync(socket)));
        _ = task.ContinueWith(
            ended =>
            {
                lock (gate)
                    serving.Remove(ended);
            },
            TaskScheduler.Default
        );
    }

    private async Task ServeAsync(Socket socket)
    {
        var peer = socket.RemoteEndPoint;
        try
        {
            var (frames, hello) = await ProveAsync(socket);
            await ServeProvenAsync(frames, hello);
        }
        catch (AuthenticationException)
        {
            refusals.Add($"a connection from {peer} was refused: it has not this cluster's key");
        }
        catch (Exception e) when (IsEnd(e))
        {
            // The other end is gone, silent, or no member; its connection ends in each case.
        }
        catch (Exception e)
        {
            options.Log($"the connection from {peer} ended by an unexpected error: {e}");
        }
        finally
        {
            socket.Dispose();
        }
    }

    private static bool IsEnd(Exception e) =>
        e
            is IOException
                or InvalidDataException
                or SocketException
                or OperationCanceledException
                or ObjectDisposedException;

    /// <summary>Returns when the other end has shown the key, where there is one, and has said hello.</summary>
    private async Task<(FrameStream Frames, HelloMessage Hello)> ProveAsync(Socket socket)
    {
        using var visit = unproven.Enter(socket.RemoteEndPoint, socket.Dispose);
        using var deadline = Within(HandshakeTimeout);
        socket.NoDelay = true;
        Stream stream = options.Key is { } key
            ? await key.SecureAcceptedAsync(socket, deadline.Token)
            : new NetworkStream(socket, ownsSocket: true);
        var frames = new FrameStream(stream);
        return (frames, await frames.ReceiveAsync<HelloMessage>(deadline.Token));
    }

    private async Task ServeProvenAsync(FrameStream frames, HelloMessage hello)
    {
        bool isMember = false;
        try
        {
            await using (frames)
            {
                if (Interlocked.Increment(ref proven) > MaxProven)
                    return;

                HelloMessage? replaced = null;
                string? refused = hello.Problem() ?? roster.Add(hello, out replaced);
                isMember = refused is null && hello.Role != MemberRole.Observer;
                await WelcomeAsync(frames, refused);
                if (replaced is not null)
                    options.Lost(replaced);
                if (refused is null)
                    await AnswerAsync(frames, hello);
            }
        }
        finally
        {
            // However the connection ended: a member that nobody hears any more must not stay one.
            Interlocked.Decrement(ref proven);
            if (isMember && !stopping.IsCancellationRequested)
                await AwaitReturnAsync(hello);
        }
    }

    /// <param name="refused">Why the process may not stay; null where it may.</param>
    private async Task WelcomeAsync(FrameStream frames, string? refused)
    {
        var welcome = options.Welcome();
        if (refused is not null)
            welcome = welcome with { Refused = refused, Redis = null };
        using var sending = Within(IdleTimeout);
        await frames.SendAsync(welcome, sending.Token);
    }

    private async Task AnswerAsync(FrameStream frames, HelloMessage hello)
    {
        bool holdsTurn = false;
        try
        {
            while (true)
            {
                // A member's next request also ends its turn.
                HeadRequest request;
                using (var idle = Within(holdsTurn ? TurnTimeout : IdleTimeout))
                    request = await frames.ReceiveAsync<HeadRequest>(idle.Token);
                if (holdsTurn)
                    turn.Release();
                holdsTurn = false;

                if (request.Ask == HeadAsk.Turn)
                {
                    await turn.WaitAsync(stopping.Token); // as long as it takes: the members before have a deadline
                    holdsTurn = true;
                }

                using (var sending = Within(IdleTimeout))
                    await frames.SendAsync(Answer(request, hello), sending.Token);

                // The process of a worker that the trainer gave up ends when it learns of that.
                if (request.Trainer is not null)
                    foreach (var worker in roster.Condemned())
                        options.Lost(worker);
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
            HeadAsk.Status => new(Status: options.Status()),
            HeadAsk.Drain => new(Error: roster.Drain(request.Worker ?? "")),
            HeadAsk.Turn or HeadAsk.Joined => new(),
            _ => new(Error: $"the head doesn't know the question {request.Ask}"),
        };

    /// <summary>Gives a member time to connect again, because it may have lost this connection alone. After that it is gone.</summary>
    private async Task AwaitReturnAsync(HelloMessage member)
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
            options.Lost(member);
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
