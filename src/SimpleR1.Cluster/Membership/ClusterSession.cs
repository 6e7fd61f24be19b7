using System.Net;

namespace SimpleR1.Cluster.Membership;

/// <summary>What a process that joins a head needs to know.</summary>
internal sealed record MemberOptions
{
    public required HeadAddress Head { get; init; }
    public required HelloMessage Hello { get; init; }

    /// <summary>Port of its silo; 0 is any free one.</summary>
    public int SiloPort { get; init; }
    public TextWriter Log { get; init; } = TextWriter.Null;
    public required Action<string> Say { get; init; }
    public Action<Microsoft.Extensions.DependencyInjection.IServiceCollection> Services { get; init; } = _ => { };

    /// <summary>Makes the request of each second; its reply may ask to drain.</summary>
    public required Func<HeadRequest> Report { get; init; }
    public Action Drain { get; init; } = () => { };

    /// <summary>Membership declared this silo dead, wrongly it seems. Null joins again with a new one.</summary>
    public Action<string>? DeclaredDead { get; init; }
}

/// <summary>
/// A worker's or trainer's tie to a head that may go away and come back: reports to it every second, and when it answers with another cluster id
/// (a restarted head with an empty membership), starts a silo in that cluster in place of the old one. What the process computes goes on meanwhile.
/// </summary>
internal sealed class ClusterSession(MemberOptions options) : IAsyncDisposable
{
    private static readonly TimeSpan ReportEvery = TimeSpan.FromSeconds(1),
        RetryEvery = TimeSpan.FromMilliseconds(500),
        AnswerTimeout = TimeSpan.FromSeconds(10),
        TurnTimeout = TimeSpan.FromMinutes(2),
        JoinTimeout = TimeSpan.FromSeconds(30);

    private readonly CancellationTokenSource stopping = new();
    private readonly TaskCompletionSource joined = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Task running = Task.CompletedTask;
    private ClusterSilo? silo;
    private volatile bool outcast;

    /// <summary>Is called with each new silo, before the old one goes down.</summary>
    public Action<ClusterSilo> SiloChanged { get; init; } = _ => { };

    /// <summary>This machine's address on the way to the head; known when joined.</summary>
    public IPAddress Address { get; private set; } = IPAddress.Loopback;

    /// <summary>Keeps joining until disposed.</summary>
    /// <returns>Completes with the first join. Fails where the head refuses this process.</returns>
    public Task StartAsync()
    {
        running = RunAsync();
        return joined.Task;
    }

    private async Task RunAsync()
    {
        string? told = null;
        while (!stopping.IsCancellationRequested)
        {
            try
            {
                await using var head = await HeadConnection.ConnectAsync(
                    options.Head,
                    options.Hello,
                    AnswerTimeout,
                    stopping.Token
                );
                if (head.Welcome.Refused is { } refused)
                {
                    if (
                        joined.TrySetException(
                            new IOException($"The head at {options.Head.Join} refused this process: {refused}")
                        )
                    )
                        return;
                    throw new IOException("it refused this process: " + refused);
                }
                if (silo is null || silo.ClusterId != head.Welcome.ClusterId || outcast)
                    await JoinAsync(head);
                joined.TrySetResult();
                if (told is not null)
                    options.Say("the head is back; joined again");
                told = null;
                while (!outcast)
                {
                    var reply = await head.AskAsync(options.Report(), AnswerTimeout, stopping.Token);
                    if (reply.Error is { } error)
                        throw new IOException(error);
                    if (reply.Drain)
                        options.Drain();
                    await Task.Delay(ReportEvery, stopping.Token);
                }
            }
            catch (OperationCanceledException) when (stopping.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e) // whatever it is, the way out is the same: try again, and say so once
            {
                if (told != e.Message)
                    options.Say($"{e.Message}; trying again until it answers");
                told = e.Message;
            }
            try
            {
                await Task.Delay(RetryEvery, stopping.Token);
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }

    private async Task JoinAsync(HeadConnection head)
    {
        await head.AskAsync(new(HeadAsk.Turn), TurnTimeout, stopping.Token);
        Address = head.LocalAddress;
        if (options.SiloPort != 0 && Interlocked.Exchange(ref silo, null) is { } holder)
            await holder.DisposeAsync(); // it has the port
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stopping.Token);
        deadline.CancelAfter(JoinTimeout);
        ClusterSilo fresh;
        try
        {
            fresh = await ClusterSilo.StartAsync(
                new()
                {
                    ClusterId = head.Welcome.ClusterId,
                    Name = new MemberName(options.Hello.Role, options.Hello.Name, options.Hello.Instance).ToString(),
                    Address = Address,
                    Port = options.SiloPort,
                    Primary = IPEndPoint.Parse(head.Welcome.SiloEndpoint),
                    Redis = head.Welcome.Redis,
                    Key = options.Head.Key,
                    Log = options.Log,
                    Services = options.Services,
                    DeclaredDead = DeclaredDead,
                },
                deadline.Token
            );
        }
        catch (OperationCanceledException) when (!stopping.IsCancellationRequested)
        {
            throw new TimeoutException(
                $"Waited {JoinTimeout.TotalSeconds:0} s to join the cluster of the head at {options.Head.Join} (its silo is at {head.Welcome.SiloEndpoint}); is that port reachable from here?"
            );
        }
        outcast = false;
        var old = Interlocked.Exchange(ref silo, fresh);
        SiloChanged(fresh);
        if (old is not null)
            _ = Task.Run(async () => await old.DisposeAsync());
        await head.AskAsync(new(HeadAsk.Joined), AnswerTimeout, stopping.Token);
    }

    private void DeclaredDead(string reason)
    {
        if (stopping.IsCancellationRequested)
            return;
        if (options.DeclaredDead is { } end)
            end(reason);
        else
            outcast = true;
    }

    /// <summary>Says goodbye to the cluster.</summary>
    public async Task LeaveAsync(TimeSpan timeout)
    {
        stopping.Cancel();
        await running;
        if (silo is not null)
            await silo.LeaveAsync(timeout);
    }

    public async ValueTask DisposeAsync()
    {
        stopping.Cancel();
        await running;
        if (silo is not null)
            await silo.DisposeAsync();
        stopping.Dispose();
    }
}
