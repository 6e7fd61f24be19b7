using System.Net;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Worker;
using SimpleR1.Inference;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Cluster.Trainer;

/// <summary>Workers failed again and again, at starting or at one request; says why.</summary>
public sealed class WorkersLostException(string message) : InvalidOperationException(message);

/// <summary>
/// The workers as the trainer uses them: prompts in, completions out as they finish, weights to all. Workers may come, leave and die at any time;
/// that costs time, never a sample.
/// </summary>
public sealed partial class WorkerPool : IRolloutWorkers, IAsyncDisposable
{
    private static readonly TimeSpan DeadShownFor = TimeSpan.FromMinutes(1);

    private readonly ClusterOptions options;
    private readonly WorkerSetup setup;
    private readonly string session = Guid.NewGuid().ToString("N")[..12];
    private readonly Lock gate = new();
    private readonly SortedDictionary<int, RemoteWorker> workers = [];
    private readonly Dictionary<string, string> givenUp = []; // by name, with the reason
    private readonly HashSet<string> expected = []; // names of those that this process starts
    private readonly CancellationTokenSource stopping = new();
    private TaskCompletionSource changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private ClusterSilo? silo;

    /// <param name="address">This machine's, by which workers reach it for weights.</param>
    internal WorkerPool(ClusterOptions options, WorkerSetup setup, IPAddress address, ClusterKey? key)
    {
        (this.options, this.setup) = (options, setup);
        window = options.QueueSamples > 0 ? options.QueueSamples : 2 * setup.Engine.MaxSequences;
        router = new(window);
        transports = WeightTransports.ForTrainer(
            new()
            {
                Choice = options.Transport,
                Address = address,
                Key = key,
                Delta = options.Delta,
                HasSendGpus = options.SendDevice is not null,
                SendGpus = () => SendGpus(options.SendDevice ?? "cuda"),
                NcclTimeout = options.SyncTimeout / 2,
            }
        );
    }

    private static IReadOnlyList<CudaDevice> SendGpus(string device) =>
        [.. WorkerDevices.ExpandGpus(device).Select(CudaDevice.Parse).OfType<CudaDevice>()];

    /// <summary>A worker died; its process, where it is a child of this one, is to be killed.</summary>
    internal Action<string> ProcessUnwanted { get; set; } = _ => { };

    /// <summary>All workers, by number.</summary>
    public IReadOnlyList<WorkerStatus> Status() => [.. Workers.Select(w => w.Status)];

    /// <summary>How many workers are in one of these states.</summary>
    internal int Count(params ReadOnlySpan<WorkerState> states) => In(states).Count;

    /// <summary>Version of the weights that were pushed last; -1 before the first.</summary>
    public int Version => published?.Version ?? -1;

    /// <summary>The engines' statistics by process, of the workers that can be asked.</summary>
    public async Task<IReadOnlyDictionary<string, EngineStatistics>> StatisticsAsync(
        CancellationToken cancellation = default
    )
    {
        var answers = await Task.WhenAll(
            In(WorkerState.Ready)
                .Select(async worker =>
                {
                    try
                    {
                        return (
                            worker.Instance,
                            Statistics: (EngineStatistics?)await worker.StatisticsAsync(cancellation)
                        );
                    }
                    catch (Exception e) when (e is IOException or TimeoutException)
                    {
                        return (worker.Instance, Statistics: null);
                    } // others find out what is wrong with it
                })
        );
        return answers.Where(a => a.Statistics is not null).ToDictionary(a => a.Instance, a => a.Statistics!);
    }

    internal TrainerReport Report() => new(Version, Volatile.Read(ref queued), Status());

    private IEnumerable<RemoteWorker> Workers
    {
        get
        {
            lock (gate)
                return [.. workers.Values];
        }
    }

    private List<RemoteWorker> In(params ReadOnlySpan<WorkerState> states)
    {
        var found = new List<RemoteWorker>();
        foreach (var worker in Workers)
            if (states.Contains(worker.State))
                found.Add(worker);
        return found;
    }

    // ---- who is there

    /// <summary>Finds workers by this silo from now on. Another silo before it belonged to a cluster that is gone: its workers will come to this one.</summary>
    internal void Attach(ClusterSilo fresh)
    {
        ClusterSilo? former;
        lock (gate)
            (former, silo) = (silo, fresh);
        former?.Unwatch();
        if (former is not null)
            foreach (var worker in Workers)
                worker.Detach();
        fresh.Watch((address, member) => Joined(fresh, address, member), Gone);
    }

    /// <summary>A process is being started that will join by this name. It takes the place of a former one.</summary>
    internal void Expect(string name, string instance)
    {
        lock (gate)
        {
            expected.Add(name);
            Add(new(MemberRole.Worker, name, instance), isLocal: true);
        }
        Changed();
    }

    internal void Started(string instance, int processId)
    {
        if (Find(instance) is not { } worker)
            return;
        worker.ProcessId = processId;
        _ = Task.Delay(options.StartTimeout, stopping.Token)
            .ContinueWith(
                _ =>
                {
                    if (worker.State == WorkerState.Joining)
                        worker.Fail(
                            $"waited {options.StartTimeout.TotalSeconds:0} s for its process {processId} to join the cluster and build its engine"
                        );
                },
                stopping.Token,
                TaskContinuationOptions.NotOnCanceled,
                TaskScheduler.Default
            );
    }

    /// <summary>A process has ended.</summary>
    /// <returns>Why the worker died, and whether it had come up before that.</returns>
    internal async Task<(string Reason, bool WasUp)> EndedAsync(string instance, string ending)
    {
        if (Find(instance) is not { } worker)
            return (ending, true);
        worker.Fail(ending);
        return (await worker.Death, worker.CameUp);
    }

    /// <summary>No process of this name will be started again.</summary>
    internal void GiveUp(string name, string reason)
    {
        lock (gate)
            givenUp[name] = $"{name}: {reason}";
        Changed();
    }

    private RemoteWorker? Find(string instance) => Workers.FirstOrDefault(w => w.Instance == instance);

    private void Joined(ClusterSilo from, SiloAddress address, MemberName member)
    {
        if (member.Role != MemberRole.Worker || stopping.IsCancellationRequested)
            return;
        RemoteWorker worker;
        bool first;
        lock (gate)
        {
            if (from != silo)
                return;
            worker = workers.Values.FirstOrDefault(w => w.Instance == member.Instance) ?? Add(member, isLocal: false);
            first = worker.State != WorkerState.Dead && worker.Attach(from, address);
        }
        if (worker.State == WorkerState.Dead)
            _ = from.DeclareDeadAsync(address); // given up already: its process ends when it learns of this
        else if (first)
            _ = BringUpAsync(worker);
    }

    /// <summary>In place of a former worker of that name, which is gone then. The lock must be held.</summary>
    private RemoteWorker Add(MemberName member, bool isLocal)
    {
        var former = workers.Values.FirstOrDefault(w => w.Name == member.Name);
        int number = former?.Number ?? (workers.Count == 0 ? 1 : workers.Keys.Last() + 1);
        var worker = new RemoteWorker(
            number,
            member,
            former is null ? 0 : former.Replacements + 1,
            former?.Status.PeakMemoryBytes ?? 0,
            session,
            options,
            Changed,
            Died
        )
        {
            IsLocal = isLocal,
        };
        workers[number] = worker;
        if (former is not null)
            _ = Task.Run(() => former.Fail("another process has taken its name"));
        return worker;
    }

    private void Gone(SiloAddress address)
    {
        var worker = Workers.FirstOrDefault(w => address.Equals(w.Address));
        worker?.Fail(
            worker.Drained
                ? "it has left the cluster"
                : $"its process {worker.ProcessId} stopped answering the cluster's probes"
        );
    }

    private void Died(RemoteWorker worker, string reason)
    {
        if (stopping.IsCancellationRequested)
            return;
        bool replaced;
        lock (gate)
            replaced = expected.Contains(worker.Name) && !worker.Drained;
        options.Log(
            worker.Drained
                ? $"{worker.Name} has left: {reason}"
                : $"{worker.Name} was lost{(replaced ? " and is replaced" : "")}: {reason}"
        );
        if (worker.Address is { } address)
            _ = silo?.DeclareDeadAsync(address);
        if (worker.IsLocal)
            ProcessUnwanted(worker.Instance);
        else
            _ = Task.Delay(DeadShownFor, stopping.Token).ContinueWith(_ => Forget(worker), TaskScheduler.Default);
    }

    private void Forget(RemoteWorker worker)
    {
        lock (gate)
            if (workers.GetValueOrDefault(worker.Number) == worker)
                workers.Remove(worker.Number);
    }

    private async Task BringUpAsync(RemoteWorker worker)
    {
        try
        {
            if (!await worker.SetupAsync(setup, stopping.Token))
                return;
            if (!worker.IsLocal)
                options.Log($"{worker.Name} has joined (process {worker.ProcessId})");
            await CatchUpAsync(worker, stopping.Token);
        }
        catch (OperationCanceledException) when (stopping.IsCancellationRequested) { }
        catch (Exception e)
        {
            worker.Fail(e.Message);
        }
    }

    // ---- waiting

    private void Changed()
    {
        TaskCompletionSource pulse;
        lock (gate)
            (pulse, changed) = (changed, new(TaskCreationOptions.RunContinuationsAsynchronously));
        pulse.SetResult();
    }

    /// <summary>Completes at the next change of any worker.</summary>
    private Task Pulse()
    {
        lock (gate)
            return changed.Task;
    }

    private async Task WaitAsync(Func<bool> condition, TimeSpan timeout, string awaited, CancellationToken cancellation)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellation, stopping.Token);
        deadline.CancelAfter(timeout);
        for (bool told = false; ; )
        {
            var pulse = Pulse();
            if (condition())
                return;
            lock (gate)
                if (
                    expected.Count > 0
                    && givenUp.Count == expected.Count
                    && workers.Values.All(w => w.State == WorkerState.Dead)
                )
                    throw new WorkersLostException(
                        $"No worker is left to wait for ({awaited}):\n{string.Join('\n', givenUp.Values)}"
                    );
            if (
                !told
                && (published is not null || options.OthersStartWorkers)
                && Workers.All(w => w.State is WorkerState.Dead or WorkerState.Joining)
            )
            {
                options.Log($"Waiting for {awaited} (at most {timeout.TotalSeconds:0} s)");
                told = true;
            }
            try
            {
                await pulse.WaitAsync(deadline.Token);
            }
            catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
            {
                if (stopping.IsCancellationRequested)
                    throw new ObjectDisposedException(
                        nameof(WorkerPool),
                        $"The cluster was shut down while waiting for {awaited}"
                    );
                string there = string.Join(", ", Workers.Select(w => $"{w.Name} {w.State}"));
                throw new TimeoutException(
                    $"Waited {timeout.TotalSeconds:0} s for {awaited}; workers: {(there.Length > 0 ? there : "none; start some with simple-r1 worker --join")}"
                );
            }
        }
    }

    /// <summary>Lets go of the workers. Their processes are ended by whoever started them.</summary>
    public async ValueTask DisposeAsync()
    {
        if (stopping.IsCancellationRequested)
            return;
        stopping.Cancel();
        await syncing.WaitAsync(); // a transfer that is under way reads the weights
        foreach (var worker in Workers)
            worker.Fail("the cluster is shut down");
        foreach (var transport in transports)
            transport.Dispose();
        hashing.Dispose();
    }
}
