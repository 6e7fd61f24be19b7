using SimpleR1.Cluster.Head;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Processes;
using SimpleR1.Cluster.Worker;

namespace SimpleR1.Cluster.Trainer;

/// <summary>
/// The workers of a trainer, and what they come from: a head in this process with worker processes on this machine (a whole cluster with
/// nothing to install), or the head that others started.
/// </summary>
public sealed class TrainerCluster : IAsyncDisposable
{
    private readonly ClusterHead? head;
    private readonly WorkerProcesses? processes;
    private readonly ClusterSession? member;
    private bool disposed;

    private TrainerCluster(WorkerPool workers, ClusterHead? head, WorkerProcesses? processes, ClusterSession? member) =>
        (Workers, this.head, this.processes, this.member) = (workers, head, processes, member);

    public WorkerPool Workers { get; }

    /// <summary>HOST:PORT of the head.</summary>
    public string Join => head?.Join ?? "";

    /// <summary>Starts the head, and the workers in the background; or joins. The first push of weights waits for workers.</summary>
    /// <exception cref="IOException">The configured port is taken, or the head refuses this process.</exception>
    /// <exception cref="TimeoutException">There is no head to join.</exception>
    public static Task<TrainerCluster> StartAsync(
        ClusterOptions options,
        WorkerSetup setup,
        CancellationToken cancellation = default
    ) =>
        options.Join is { } address
            ? JoinAsync(options, address, setup, cancellation)
            : OwnAsync(options, setup, cancellation);

    private static async Task<TrainerCluster> OwnAsync(
        ClusterOptions options,
        WorkerSetup setup,
        CancellationToken cancellation
    )
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Workers, options.Head is null ? 1 : 0);
        var devices = WorkerDevices.Expand(options.Device);
        var settings = options.Head ?? new() { Port = options.Port };
        var head = await ClusterHead.StartAsync(settings with { Log = Log(options) }, cancellation);
        var pool = new WorkerPool(options, setup, head.Address, settings.Key);
        head.Roster.OwnTrainer = () => (options.Name, pool.Report());
        pool.Attach(head.Silo);
        var processes =
            options.Workers == 0
                ? null
                : new WorkerProcesses(
                    new()
                    {
                        Command = options.WorkerCommand,
                        Processes =
                        [
                            .. Enumerable
                                .Range(1, options.Workers)
                                .Select(number => ($"worker {number}", devices[(number - 1) % devices.Count])),
                        ],
                        Type = options.Type,
                        Head = new(head.Join, settings.Key),
                        Threads =
                            options.ThreadsPerWorker > 0
                                ? options.ThreadsPerWorker
                                : Math.Max(1, Environment.ProcessorCount / options.Workers),
                        LogFolder = options.LogFolder,
                        StartAttempts = options.StartAttempts,
                        Say = options.Log,
                    },
                    pool
                );
        return new(pool, head, processes, null);
    }

    private static async Task<TrainerCluster> JoinAsync(
        ClusterOptions options,
        HeadAddress address,
        WorkerSetup setup,
        CancellationToken cancellation
    )
    {
        WorkerPool? pool = null;
        ClusterSilo? silo = null;
        var gate = new Lock();
        var member = new ClusterSession(
            new()
            {
                Head = address,
                Hello = new(
                    HelloMessage.CurrentProtocol,
                    MemberRole.Trainer,
                    options.Name,
                    Guid.NewGuid().ToString("N")[..12],
                    Environment.MachineName,
                    Environment.ProcessId,
                    ""
                ),
                Log = Log(options),
                Say = options.Log,
                Report = () => new(HeadAsk.Report, Trainer: Volatile.Read(ref pool)?.Report()),
            }
        )
        {
            SiloChanged = fresh =>
            {
                lock (gate)
                {
                    silo = fresh;
                    pool?.Attach(fresh);
                }
            },
        };
        try
        {
            try
            {
                await member.StartAsync().WaitAsync(options.StartTimeout, cancellation);
            }
            catch (TimeoutException)
            {
                throw new TimeoutException(
                    $"Waited {options.StartTimeout.TotalSeconds:0} s to join the head at {address.Join}; start one with: simple-r1 head"
                );
            }
            lock (gate)
            {
                pool = new(options, setup, member.Address, address.Key);
                pool.Attach(silo!);
            }
            return new(pool, null, null, member);
        }
        catch
        {
            await member.DisposeAsync();
            throw;
        }
    }

    private static TextWriter Log(ClusterOptions options) =>
        options.LogFolder is null
            ? TextWriter.Null
            : new LogFile(Path.Combine(Directory.CreateDirectory(options.LogFolder).FullName, "cluster.log"));

    /// <summary>Ends the workers that were started here, then the head; or leaves.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref disposed, true))
            return;
        await Workers.DisposeAsync();
        if (processes is not null)
            await processes.DisposeAsync();
        if (head is not null)
            await head.DisposeAsync();
        if (member is not null)
        {
            await member.LeaveAsync(TimeSpan.FromSeconds(5));
            await member.DisposeAsync();
        }
    }
}
