using System.Diagnostics;
using SimpleR1.Inference;
using SimpleR1.Sync;

namespace SimpleR1.Cluster;

/// <summary>One worker process as the head sees it, from its start to its end. Every call to it has a deadline that names what it waited for.</summary>
internal sealed class Worker(int number, int replacements, long formerPeakMemory, ClusterOptions options, Action changed) : IAsyncDisposable
{
    private static readonly TimeSpan PollTime = TimeSpan.FromSeconds(1), SuspectTime = TimeSpan.FromSeconds(3);

    private readonly Lock gate = new();
    private readonly CancellationTokenSource lost = new();
    private readonly TaskCompletionSource<string> death = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private ChildProcess? process;
    private IWorkerGrain? grain;
    private long outstanding, generated, busySince, busyTicks, peakMemory = formerPeakMemory;

    public int Number => number;
    public string Name => $"worker {number}";
    public WorkerState State { get; private set; } = WorkerState.Joining;
    public int Version { get; private set; } = -1;
    /// <summary>Completes with the reason when the worker is dead.</summary>
    public Task<string> Death => death.Task;
    public long Outstanding => Interlocked.Read(ref outstanding);

    public WorkerStatus Status
    {
        get
        {
            lock (gate)
            {
                long ticks = busyTicks + (outstanding > 0 ? Stopwatch.GetTimestamp() - busySince : 0);
                if (process is not null && State != WorkerState.Dead) peakMemory = Math.Max(peakMemory, ProcessMemory.Peak(process.Id));
                return new(number, process?.Id ?? 0, State, Version, outstanding, ticks == 0 ? 0 : generated / ((double)ticks / Stopwatch.Frequency), peakMemory, replacements);
            }
        }
    }

    /// <summary>Changes the state where the life of a worker allows it; false where it doesn't.</summary>
    public bool Become(WorkerState next)
    {
        lock (gate)
        {
            if (!State.MayBecome(next)) return false;
            State = next;
        }
        changed();
        return true;
    }

    /// <summary>The worker is of no more use: its process is killed, whoever waits for it stops, and its slot starts another.</summary>
    public void Fail(string reason) => End(reason, kill: true);

    private void End(string reason, bool kill)
    {
        if (!Become(WorkerState.Dead)) return;
        if (kill) process?.Kill();
        death.TrySetResult(reason);
        lost.Cancel();
    }

    // ---- start

    public async Task StartAsync(HeadSilo head, WorkerSetup setup, CancellationToken cancellation)
    {
        string siloName = $"worker-{number}-{Guid.NewGuid().ToString("N")[..8]}";
        int threads = options.ThreadsPerWorker > 0 ? options.ThreadsPerWorker : Math.Max(1, Environment.ProcessorCount / options.Workers);
        var arguments = new WorkerOptions { Join = head.Endpoint, ClusterId = head.ClusterId, Name = siloName, Parent = Environment.ProcessId }.ToArguments();
        string? logFile = options.LogFolder is null ? null : Path.Combine(Directory.CreateDirectory(options.LogFolder).FullName, $"worker-{number}.log");
        var child = await ChildProcess.StartAsync([.. options.WorkerCommand, .. arguments], Name, logFile, ChildEnvironment(threads));
        process = child;
        if (State == WorkerState.Dead) child.Kill(); // failed while it was being started
        _ = WatchAsync(child);

        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellation, lost.Token);
        deadline.CancelAfter(options.StartTimeout);
        try
        {
            var address = await head.JoinAsync(siloName, child.Signal, deadline.Token);
            _ = WatchAsync(head, address);
            head.OnDeath(address, () => Fail($"its process {child.Id} stopped answering the cluster's probes"));
            grain = head.Grains.GetGrain<IWorkerGrain>(address.ToParsableString());
            var message = new SetupMessage(Wire.ToJson(setup with { TokenizerJson = null }), setup.TokenizerJson, threads);
            if (await SetupAsync(message, deadline.Token) is { } failure) Fail("it could not build its engine: " + failure);
            else Become(WorkerState.Waiting);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            Fail($"waited {options.StartTimeout.TotalSeconds:0} s for its process {child.Id} to join the cluster and build its engine; its last output:\n{child.Tail()}");
        }
    }

    private async Task WatchAsync(ChildProcess child)
    {
        string ending = await child.EndedAsync();
        Fail($"its process {child.Id} {ending}{(child.Tail() is { Length: > 0 } tail ? "; its last output:\n" + tail : "")}");
    }

    private async Task WatchAsync(HeadSilo head, SiloAddress address)
    {
        await Death;
        try { await head.DeclareDeadAsync(address); }
        catch (Exception e) when (e is OrleansException or ObjectDisposedException or InvalidOperationException) { } // the head goes down too
    }

    /// <summary>Membership may know a silo a moment before placement does.</summary>
    private async Task<string?> SetupAsync(SetupMessage message, CancellationToken deadline)
    {
        while (true)
            try { return await grain!.SetupAsync(message).WaitAsync(deadline); }
            catch (OrleansException) { await Task.Delay(20, deadline); }
    }

    /// <summary>What must be in a process's environment before it starts.</summary>
    private static Dictionary<string, string> ChildEnvironment(int threads) => new()
    {
        ["OMP_NUM_THREADS"] = threads.ToString(System.Globalization.CultureInfo.InvariantCulture),
        ["NCCL_NVLS_ENABLE"] = "0", // NVLink multicast stays off
        ["DOTNET_gcServer"] = "0",
        // glibc would give large tensors back to the system at every free, and fault them in again at the next allocation
        ["MALLOC_MMAP_THRESHOLD_"] = "1073741824",
        ["MALLOC_TRIM_THRESHOLD_"] = "1073741824",
        ["MALLOC_TOP_PAD_"] = "67108864",
    };

    // ---- weights

    public Task PauseAsync(CancellationToken cancellation)
    {
        if (!Become(WorkerState.Receiving)) throw new InvalidOperationException($"{Name} is {State} and can't receive weights");
        Version = -1;
        return CallAsync(g => Void(g.PauseAsync(options.SyncTimeout.TotalSeconds + options.ResponseTimeout.TotalSeconds)), options.ResponseTimeout, "pause between two steps", cancellation);
    }

    public Task<ReceiptMessage> ReceiveAsync(IEnumerable<WeightInvitation> invitations, CancellationToken cancellation) =>
        CallAsync(g => g.ReceiveAsync([.. invitations.Select(Wire.ToJson)], options.SyncTimeout.TotalSeconds / 2), options.SyncTimeout, "receive the weights", cancellation);

    /// <summary>Declares the received weights good, and ends the pause.</summary>
    public async Task CommitAsync(int version, CancellationToken cancellation)
    {
        await CallAsync(g => Void(g.CommitAsync(version)), options.ResponseTimeout, $"commit weights version {version}", cancellation);
        Version = version;
        Become(WorkerState.Ready);
    }

    // ---- rollouts

    /// <summary>Runs the requests, and hands over each completion as it arrives, until <paramref name="owed"/> says that none is missing.</summary>
    /// <exception cref="ArgumentException">No worker can serve the requests; says why.</exception>
    public async Task RolloutAsync(string batch, IReadOnlyList<GenerationRequest> requests, Func<int> owed, Action<Completion> finished, CancellationToken cancellation)
    {
        await CallAsync(g => Void(g.SubmitAsync(batch, [.. requests.Select(RequestMessage.From)])), options.ResponseTimeout, $"take {requests.Count} requests", cancellation);
        long progress = -1, progressAt = Stopwatch.GetTimestamp();
        while (owed() > 0)
        {
            var reply = await CallAsync(g => g.NextAsync(batch, PollTime.TotalSeconds), PollTime + options.ResponseTimeout, "say what has finished", cancellation);
            if (reply.Rejected is { } rejected) throw new ArgumentException(rejected);
            if (reply.Failed is { } failed) throw new IOException("its engine failed: " + failed);
            lock (gate) peakMemory = Math.Max(peakMemory, reply.PeakMemory);
            foreach (var message in reply.Completions) finished(message.ToCompletion());
            if (reply.Progress != progress || State == WorkerState.Receiving) (progress, progressAt) = (reply.Progress, Stopwatch.GetTimestamp());
            var still = Stopwatch.GetElapsedTime(progressAt);
            if (still > options.StallTimeout) throw new TimeoutException($"its engine made no step for {still.TotalSeconds:0} s with {owed()} samples to do");
            if (still > options.StallTimeout / 4) Become(WorkerState.Suspect);
            else if (State == WorkerState.Suspect) Become(WorkerState.Ready);
        }
    }

    /// <summary>Best effort: the samples are no longer wanted.</summary>
    public async Task AbortAsync(string batch)
    {
        if (State == WorkerState.Dead || grain is null) return;
        try { await CallAsync(g => Void(g.AbortAsync(batch)), options.ResponseTimeout, "abort a batch", CancellationToken.None); }
        catch (Exception e) when (e is not OutOfMemoryException) { Fail(e.Message); }
    }

    /// <summary>Counts work given (positive) and finished (negative).</summary>
    public void AddOutstanding(long tokens, int generatedTokens = 0)
    {
        lock (gate)
        {
            long now = Stopwatch.GetTimestamp();
            if (outstanding == 0) busySince = now;
            outstanding += tokens;
            generated += generatedTokens;
            if (outstanding == 0) busyTicks += now - busySince;
        }
    }

    // ---- calls

    private static async Task<bool> Void(Task task)
    {
        await task;
        return true;
    }

    private async Task<T> CallAsync<T>(Func<IWorkerGrain, Task<T>> call, TimeSpan timeout, string awaited, CancellationToken cancellation)
    {
        if (State == WorkerState.Dead) throw new IOException($"{Name} was lost: {await Death}");
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation, lost.Token);
        var answer = call(grain ?? throw new InvalidOperationException($"{Name} has not joined yet"));
        try
        {
            var suspicious = SuspectTime + PollTime;
            if (timeout > suspicious && State == WorkerState.Ready)
            {
                try { return await answer.WaitAsync(suspicious, stop.Token); }
                catch (TimeoutException) when (!answer.IsCompleted) { Become(WorkerState.Suspect); }
                timeout -= suspicious;
            }
            var late = await answer.WaitAsync(timeout, stop.Token);
            if (State == WorkerState.Suspect) Become(WorkerState.Ready);
            return late;
        }
        catch (TimeoutException) when (!answer.IsCompleted)
        {
            throw new TimeoutException($"Waited {timeout.TotalSeconds:0.#} s for {Name} (process {process?.Id}) to {awaited}");
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested && lost.IsCancellationRequested)
        {
            throw new IOException($"{Name} was lost while it was to {awaited}: {await Death}");
        }
    }

    public async ValueTask DisposeAsync()
    {
        End("the cluster is shut down", kill: false);
        if (process is not null) await process.DisposeAsync();
        lost.Dispose();
    }
}
