using SimpleR1.Cluster.Membership;

namespace SimpleR1.Cluster.Trainer;

/// <summary>The workers that a trainer has, by number, and waits for changes of any. Safe to use from several threads.</summary>
internal sealed class WorkerList(ClusterOptions options, CancellationToken stopping)
{
    private static readonly TimeSpan StartSlack = TimeSpan.FromSeconds(5);

    private readonly Lock gate = new();
    private readonly SortedDictionary<int, RemoteWorker> workers = [];
    private readonly Dictionary<string, string> givenUp = []; // by name, with the reason
    private readonly HashSet<string> expected = []; // names of those that this process starts
    private TaskCompletionSource changed = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Whether a wait for workers is worth a line of the log. At a start of this process's own workers it is not.</summary>
    public bool LogsWaits { get; set; } = options.OthersStartWorkers;

    /// <summary>Cancelled when the workers are released.</summary>
    public CancellationToken Stopping => stopping;

    /// <summary>Time for a worker to come where none is ready.</summary>
    public TimeSpan ArrivalTimeout =>
        options.OthersStartWorkers ? options.WorkerWait : options.StartTimeout + StartSlack;

    public IReadOnlyList<RemoteWorker> All
    {
        get
        {
            lock (gate)
                return [.. workers.Values];
        }
    }

    /// <summary>The workers in one of these states.</summary>
    public List<RemoteWorker> InState(params ReadOnlySpan<WorkerState> states)
    {
        var found = new List<RemoteWorker>();
        foreach (var worker in All)
            if (states.Contains(worker.State))
                found.Add(worker);

        return found;
    }

    /// <summary>Whether a worker is in one of these states.</summary>
    public bool HasAny(params ReadOnlySpan<WorkerState> states) => InState(states).Count > 0;

    /// <summary>The worker of a process; null where there is none.</summary>
    public RemoteWorker? Find(string instance) => All.FirstOrDefault(w => w.Instance == instance);

    /// <summary>Adds a worker in place of a former one of its name, which is therefore gone.</summary>
    /// <param name="isStartedHere">This process starts the worker's process, and keeps it running.</param>
    public RemoteWorker Add(MemberName member, bool isStartedHere, Func<WorkerSlot, RemoteWorker> create)
    {
        RemoteWorker? former;
        RemoteWorker worker;
        lock (gate)
        {
            if (isStartedHere)
                expected.Add(member.Name);
            former = workers.Values.FirstOrDefault(w => w.Name == member.Name);
            int next = workers.Count == 0 ? 1 : workers.Keys.Last() + 1;
            var slot = former is null
                ? new WorkerSlot(next, member, Replacements: 0, FormerPeakMemory: 0)
                : new WorkerSlot(former.Number, member, former.Replacements + 1, former.Status.PeakMemoryBytes);
            worker = create(slot);
            workers[slot.Number] = worker;
        }
        if (former is not null)
            _ = Task.Run(() => former.Fail("another process has taken its name"));

        return worker;
    }

    /// <summary>Whether this process starts a worker of this name again when the process has died.</summary>
    public bool IsStartedHere(string name)
    {
        lock (gate)
            return expected.Contains(name);
    }

    /// <summary>No process of this name will be started again.</summary>
    public void GiveUp(string name, string reason)
    {
        lock (gate)
            givenUp[name] = $"{name}: {reason}";
        NotifyChange();
    }

    /// <summary>Removes a worker, unless another one has its number now.</summary>
    public void Remove(RemoteWorker worker)
    {
        lock (gate)
            if (workers.GetValueOrDefault(worker.Number) == worker)
                workers.Remove(worker.Number);
    }

    /// <summary>Wakes all that wait for a change.</summary>
    public void NotifyChange()
    {
        TaskCompletionSource pulse;
        lock (gate)
        {
            pulse = changed;
            changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
        }
        pulse.SetResult();
    }

    /// <summary>Completes at the next change of any worker.</summary>
    public Task NextChange()
    {
        lock (gate)
            return changed.Task;
    }

    /// <summary>Waits for a condition that workers' changes can bring about.</summary>
    /// <param name="awaited">What the wait is for, for the log and for errors: "a worker to join".</param>
    /// <exception cref="WorkersLostException">All workers that this process starts were given up.</exception>
    /// <exception cref="TimeoutException">The condition did not come in time.</exception>
    public async Task WaitAsync(Func<bool> condition, TimeSpan timeout, string awaited, CancellationToken cancellation)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellation, stopping);
        deadline.CancelAfter(timeout);
        bool isLogged = false;
        while (true)
        {
            var change = NextChange();
            if (condition())
                return;

            ThrowIfAllGivenUp(awaited);
            if (!isLogged && LogsWaits && All.All(w => w.State is WorkerState.Dead or WorkerState.Joining))
            {
                options.Log($"Waiting for {awaited} (at most {timeout.TotalSeconds:0} s)");
                isLogged = true;
            }

            try
            {
                await change.WaitAsync(deadline.Token);
            }
            catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
            {
                throw EndOfWait(timeout, awaited);
            }
        }
    }

    private void ThrowIfAllGivenUp(string awaited)
    {
        lock (gate)
            if (
                expected.Count > 0
                && givenUp.Count == expected.Count
                && workers.Values.All(w => w.State == WorkerState.Dead)
            )
                throw new WorkersLostException(
                    $"No worker is left to wait for ({awaited}):\n{string.Join('\n', givenUp.Values)}"
                );
    }

    private Exception EndOfWait(TimeSpan timeout, string awaited)
    {
        if (stopping.IsCancellationRequested)
            return new ObjectDisposedException(
                nameof(WorkerPool),
                $"The cluster was shut down while waiting for {awaited}"
            );

        string states = string.Join(", ", All.Select(w => $"{w.Name} {w.State}"));
        if (states.Length == 0)
            states = "none; start some with simple-r1 worker --join";
        return new TimeoutException($"Waited {timeout.TotalSeconds:0} s for {awaited}; workers: {states}");
    }
}
