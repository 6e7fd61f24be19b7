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
    private const int MaxConnections = 4096;
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

    // Processes that write to the membership table at the same time would make each other wait for seconds.
    private readonly SemaphoreSlim turn = new(1, 1);

    private HeadServer(TcpListener listener, HeadServerOptions options)
    {
        this.listener = listener;
        this.options = options;
        roster = options.Roster;
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
                continue; // the other end has gone already
            }

            lock (gate)
                if (serving.Count < MaxConnections)
                    Serve(socket);
                else
                    socket.Dispose();
        }
    }

    /// <summary>The lock must be held.</summary>
    private void Serve(Socket socket)
    {
        var task = Task.Run(() => ServeAsync(socket));
        serving.Add(task);
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
        HelloMessage? member = null;
        string peer = socket.RemoteEndPoint?.ToString() ?? "a closed connection";
        try
        {
            socket.NoDelay = true;
            using var deadline = Within(HandshakeTimeout);
            await using var frames = new FrameStream(await SecureAsync(socket, deadline.Token));
            var hello = await frames.ReceiveAsync<HelloMessage>(deadline.Token);
            if (!await WelcomeAsync(frames, hello, deadline.Token))
                return;

            if (hello.Role != MemberRole.Observer)
                member = hello;
            await AnswerAsync(frames, hello);
        }
        catch (AuthenticationException)
        {
            options.Log($"a connection from {peer} was refused: it has not this cluster's key");
        }
        catch (Exception e)
            when (e
                    is IOException
                        or InvalidDataException
                        or SocketException
                        or OperationCanceledException
                        or ObjectDisposedException
            )
        {
            // The other end is gone, silent, or no member; its connection ends in each case.
        }
        finally
        {
            socket.Dispose();
        }

        if (member is not null && !stopping.IsCancellationRequested)
            await AwaitReturnAsync(member);
    }

    private async Task<Stream> SecureAsync(Socket socket, CancellationToken cancellation)
    {
        var stream = new NetworkStream(socket, ownsSocket: true);
        if (options.Key is null)
            return stream;

        byte[] first = new byte[1];
        int count = await socket.ReceiveAsync(first, SocketFlags.Peek, cancellation);
        ClusterKey.RequireTls(first.AsSpan(0, count));
        return await options.Key.SecureAcceptedAsync(stream, cancellation);
    }

    /// <returns>Whether the process may stay.</returns>
    private async Task<bool> WelcomeAsync(FrameStream frames, HelloMessage hello, CancellationToken cancellation)
    {
        HelloMessage? replaced = null;
        string? refused = hello.Problem() ?? roster.Add(hello, out replaced);
        var welcome = options.Welcome();
        if (refused is not null)
            welcome = welcome with { Refused = refused, Redis = null };
        await frames.SendAsync(welcome, cancellation);
        if (replaced is not null)
            options.Lost(replaced);

        return refused is null;
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
