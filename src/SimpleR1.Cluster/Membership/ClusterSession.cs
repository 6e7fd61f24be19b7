using System.Net;
using Microsoft.Extensions.DependencyInjection;
using SimpleR1.Cluster.Wire;

namespace SimpleR1.Cluster.Membership;

/// <summary>What a process that joins a head needs to know.</summary>
internal sealed record SessionOptions
{
    public required HeadAddress Head { get; init; }
    public required HelloMessage Hello { get; init; }

    /// <summary>Port of the process's silo; 0 is any free one.</summary>
    public int SiloPort { get; init; }

    /// <summary>Takes the silo's warnings.</summary>
    public TextWriter SiloLog { get; init; } = TextWriter.Null;

    /// <summary>Takes one line about each thing a person should know.</summary>
    public required Action<string> Log { get; init; }

    /// <summary>Adds the services that the silo's grains need.</summary>
    public Action<IServiceCollection> Services { get; init; } = _ => { };

    /// <summary>Makes the request of each second; its reply may ask to drain.</summary>
    public required Func<HeadRequest> Report { get; init; }
    public Action Drain { get; init; } = () => { };

    /// <summary>Called when membership declares this silo dead, by mistake as it seems. Null joins again with a new silo.</summary>
    public Action<string>? DeclaredDead { get; init; }
}

/// <summary>
/// A worker's or trainer's tie to a head that may go away and come back. It reports to the head every second. When the head
/// answers with another cluster id (a restarted head with an empty membership), it starts a silo in that cluster in place of
/// the old one. The process computes all the while.
/// </summary>
internal sealed class ClusterSession(SessionOptions options) : IAsyncDisposable
{
    private static readonly TimeSpan ReportInterval = TimeSpan.FromSeconds(1),
        RetryInterval = TimeSpan.FromMilliseconds(500),
        AnswerTimeout = TimeSpan.FromSeconds(10),
        TurnTimeout = TimeSpan.FromMinutes(2),
        JoinTimeout = TimeSpan.FromSeconds(30);

    private const int MostDoubtfulRefusals = 3;

    private readonly CancellationTokenSource stopping = new();
    private readonly TaskCompletionSource joined = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Task running = Task.CompletedTask;
    private ClusterSilo? silo;
    private int doubtfulRefusals;
    private string? lastProblem; // logged once, however often it comes in a row
    private volatile bool isDeclaredDead;

    /// <summary>Called with each new silo, before the old one goes down.</summary>
    public Action<ClusterSilo> SiloChanged { get; init; } = _ => { };

    /// <summary>This machine's address in the head's direction; known when joined.</summary>
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
        while (!stopping.IsCancellationRequested)
        {
            try
            {
                await StayAsync();
            }
            catch (OperationCanceledException) when (stopping.IsCancellationRequested)
            {
                return;
            }
            catch (HeadRefusedException e) when (IsFinal(e))
            {
                joined.TrySetException(e);
                return;
            }
            catch (Exception e) // whatever it is, the remedy is the same: retry, and log it once
            {
                if (lastProblem != e.Message)
                    options.Log($"{e.Message}; trying again until it answers");
                lastProblem = e.Message;
            }

            try
            {
                await Task.Delay(RetryInterval, stopping.Token);
            }
            catch (OperationCanceledException)
            {
                return;
            }
        }
    }

    /// <summary>Connects to the head, joins its cluster where that is a new one, and reports until the connection is lost.</summary>
    /// <exception cref="HeadRefusedException">The head does not welcome this process.</exception>
    private async Task StayAsync()
    {
        await using var head = await HeadConnection.ConnectAsync(
            options.Head,
            options.Hello,
            AnswerTimeout,
            stopping.Token
        );
        if (head.Welcome.Refused is { } refused)
            throw new HeadRefusedException($"The head at {options.Head.Join} refused this process: {refused}");

        // The head's cluster, where it is a new one.
        if (silo is null || silo.ClusterId != head.Welcome.ClusterId || isDeclaredDead)
            await JoinAsync(head);
        joined.TrySetResult();
        if (lastProblem is not null)
            options.Log("the head is back; joined again");
        lastProblem = null;

        // Reports.
        while (!isDeclaredDead)
        {
            var reply = await head.AskAsync(options.Report(), AnswerTimeout, stopping.Token);
            if (reply.Error is { } error)
                throw new IOException(error);
            if (reply.Drain)
                options.Drain();
            await Task.Delay(ReportInterval, stopping.Token);
        }
    }

    /// <summary>
    /// Whether to give up. A head that refuses the first join refuses this process for good; only one that does not
    /// answer is waited for. After that, the head may be a new one whose members are not all back.
    /// </summary>
    private bool IsFinal(HeadRefusedException refusal) =>
        !joined.Task.IsCompleted && (refusal.IsCertain || ++doubtfulRefusals == MostDoubtfulRefusals);

    private async Task JoinAsync(HeadConnection head)
    {
        // Members join one after another.
        await head.AskAsync(new(HeadAsk.Turn), TurnTimeout, stopping.Token);
        Address = head.LocalAddress;

        // A fixed port must be free before the new silo can take it.
        if (options.SiloPort != 0 && Interlocked.Exchange(ref silo, null) is { } holder)
            await holder.DisposeAsync();

        var next = await StartSiloAsync(head.Welcome);
        isDeclaredDead = false;
        var former = Interlocked.Exchange(ref silo, next);
        SiloChanged(next);
        if (former is not null)
            _ = Task.Run(async () => await former.DisposeAsync());

        await head.AskAsync(new(HeadAsk.Joined), AnswerTimeout, stopping.Token);
    }

    private async Task<ClusterSilo> StartSiloAsync(WelcomeMessage welcome)
    {
        var name = new MemberName(options.Hello.Role, options.Hello.Name, options.Hello.Instance);
        var siloOptions = new SiloOptions
        {
            ClusterId = welcome.ClusterId,
            Name = name.ToString(),
            Address = Address,
            Port = options.SiloPort,
            Primary = IPEndPoint.Parse(welcome.SiloEndpoint),
            Redis = welcome.Redis,
            Key = options.Head.Key,
            SiloLog = options.SiloLog,
            Services = options.Services,
            DeclaredDead = OnDeclaredDead,
        };

        // Orleans waits for the membership as long as it may.
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stopping.Token);
        deadline.CancelAfter(JoinTimeout);
        try
        {
            return await ClusterSilo.StartAsync(siloOptions, deadline.Token);
        }
        catch (OperationCanceledException) when (!stopping.IsCancellationRequested)
        {
            throw new TimeoutException(
                $"Waited {JoinTimeout.TotalSeconds:0} s to join the cluster of the head at {options.Head.Join} "
                    + $"(its silo is at {welcome.SiloEndpoint}); is that port reachable from here?"
            );
        }
    }

    private void OnDeclaredDead(string reason)
    {
        if (stopping.IsCancellationRequested)
            return;
        if (options.DeclaredDead is { } end)
            end(reason);
        else
            isDeclaredDead = true;
    }

    /// <summary>Leaves the cluster in order: the others know at once.</summary>
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
