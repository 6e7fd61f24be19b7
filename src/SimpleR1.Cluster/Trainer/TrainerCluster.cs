using SimpleR1.Cluster.Head;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Processes;
using SimpleR1.Cluster.Wire;
using SimpleR1.Cluster.Worker;

namespace SimpleR1.Cluster.Trainer;

/// <summary>
/// The workers of a trainer, and their origin: a head in this process with worker processes on this machine (a whole cluster with
/// nothing to install), or a head that others started.
/// </summary>
public sealed class TrainerCluster : IAsyncDisposable
{
    private static readonly TimeSpan LeaveTimeout = TimeSpan.FromSeconds(5);

    private readonly ClusterHead? head;
    private readonly WorkerProcesses? processes;
    private readonly ClusterSession? session;
    private bool disposed;

    private TrainerCluster(
        WorkerPool workers,
        ClusterHead? head = null,
        WorkerProcesses? processes = null,
        ClusterSession? session = null
    )
    {
        Workers = workers;
        this.head = head;
        this.processes = processes;
        this.session = session;
    }

    public WorkerPool Workers { get; }

    /// <summary>HOST:PORT of the head in this process; empty where it is elsewhere.</summary>
    public string Join => head?.Join ?? "";

    /// <summary>Starts the head, and the workers in the background; or joins a head. The first push of weights waits for workers.</summary>
    /// <exception cref="IOException">The configured port is taken, or the head refuses this process.</exception>
    /// <exception cref="TimeoutException">There is no head to join.</exception>
    public static Task<TrainerCluster> StartAsync(
        ClusterOptions options,
        WorkerSetup setup,
        CancellationToken cancellation = default
    ) =>
        options.Join is { } address
            ? JoinAsync(options with { Colocated = RequireNone(options.Colocated) }, address, setup, cancellation)
            : StartOwnAsync(options, setup, cancellation);

    private static ColocatedMemory? RequireNone(ColocatedMemory? memory) =>
        memory is null
            ? null
            : throw new ArgumentException(
                "placement: only workers that this process starts can share its memory, and those of another head can't"
            );

    /// <summary>Divides the memory that is shared among the workers on the trainer's GPU.</summary>
    private static void Share(ColocatedMemory memory, ClusterOptions options, IReadOnlyList<string> devices)
    {
        string gpu = $"cuda:{memory.Device.Index}";
        int sharing = Enumerable.Range(0, options.Workers).Count(i => devices[i % devices.Count] == gpu);
        if (sharing == 0)
            throw new ArgumentException(
                $"placement: no worker computes on the trainer's {gpu} ({options.Worker.Device}) to share its memory"
            );
        if (options.Overlap)
            throw new ArgumentException(
                "placement: workers that share the trainer's weights can't receive into a second buffer (overlap)"
            );
        memory.Begin(sharing, options.Log);
    }

    private static async Task<TrainerCluster> StartOwnAsync(
        ClusterOptions options,
        WorkerSetup setup,
        CancellationToken cancellation
    )
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Workers, options.Head is null ? 1 : 0);
        var devices = WorkerDevices.Expand(options.Worker.Device);
        if (options.Colocated is { } memory)
            Share(memory, options, devices);

        // The head, and the pool of the workers that join it.
        var headOptions = options.Head ?? new() { Port = options.Port };
        var head = await ClusterHead.StartAsync(headOptions with { SiloLog = OpenSiloLog(options) }, cancellation);
        var pool = new WorkerPool(options, setup, head.Address, headOptions.Key);
        head.Roster.OwnTrainer = () => (options.Name, pool.Report());
        pool.Attach(head.Silo);
        if (options.Workers == 0)
            return new(pool, head);

        // The workers of this machine.
        var numbers = Enumerable.Range(1, options.Workers);
        var processes = new WorkerProcesses(
            new()
            {
                Command = options.WorkerCommand,
                Processes = [.. numbers.Select(n => ($"worker {n}", devices[(n - 1) % devices.Count]))],
                Worker = options.Worker,
                Head = new(head.Join, headOptions.Key),
                LogFolder = options.LogFolder,
                StartAttempts = options.StartAttempts,
                RestartsAtOnce = true,
            },
            pool
        );
        pool.KillProcess = processes.Kill;
        processes.Start();

        return new(pool, head, processes);
    }

    private static async Task<TrainerCluster> JoinAsync(
        ClusterOptions options,
        HeadAddress address,
        WorkerSetup setup,
        CancellationToken cancellation
    )
    {
        // The session may change its silo before and after there is a pool.
        WorkerPool? pool = null;
        ClusterSilo? silo = null;
        var gate = new Lock();
        var session = new ClusterSession(
            new()
            {
                Head = address,
                Hello = HelloMessage.Create(MemberRole.Trainer, options.Name, Guid.NewGuid().ToString("N")[..12]),
                SiloLog = OpenSiloLog(options),
                Log = options.Log,
                Report = () => new(HeadAsk.Report, Trainer: Volatile.Read(ref pool)?.Report()),
            }
        )
        {
            SiloChanged = next =>
            {
                lock (gate)
                {
                    silo = next;
                    pool?.Attach(next);
                }
            },
        };

        // The pool, with the first silo.
        try
        {
            await JoinInTimeAsync(session, options, address, cancellation);
            lock (gate)
            {
                pool = new(options, setup, session.Address, address.Key);
                pool.Attach(silo!);
            }

            return new(pool, session: session);
        }
        catch
        {
            await session.DisposeAsync();
            throw;
        }
    }

    private static async Task JoinInTimeAsync(
        ClusterSession session,
        ClusterOptions options,
        HeadAddress address,
        CancellationToken cancellation
    )
    {
        try
        {
            await session.StartAsync().WaitAsync(options.StartTimeout, cancellation);
        }
        catch (TimeoutException)
        {
            throw new TimeoutException(
                $"Waited {options.StartTimeout.TotalSeconds:0} s to join the head at {address.Join}; "
                    + "start one with: simple-r1 head"
            );
        }
    }

    private static TextWriter OpenSiloLog(ClusterOptions options)
    {
        if (options.LogFolder is null)
            return TextWriter.Null;

        string folder = Directory.CreateDirectory(options.LogFolder).FullName;
        return new LogFile(Path.Combine(folder, "cluster.log"));
    }

    /// <summary>Ends the workers that were started here, then the head; or leaves the other head.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref disposed, true))
            return;

        await Workers.DisposeAsync();
        if (processes is not null)
            await processes.DisposeAsync();
        if (head is not null)
            await head.DisposeAsync();
        if (session is not null)
        {
            await session.LeaveAsync(LeaveTimeout);
            await session.DisposeAsync();
        }
    }
}
