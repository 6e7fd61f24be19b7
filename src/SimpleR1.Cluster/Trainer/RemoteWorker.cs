using System.Diagnostics;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Processes;
using SimpleR1.Cluster.Worker;
using SimpleR1.Inference;
using SimpleR1.WeightSync;
using static TorchSharp.torch;

namespace SimpleR1.Cluster.Trainer;

/// <summary>Another trainer has the workers now; this one can't go on.</summary>
public sealed class TakenOverException(string message) : InvalidOperationException(message);

/// <summary>
/// One worker process as the trainer sees it, from its start to its end. Every call to it has a deadline that names what it waited for, and is made again
/// when the way to it broke off and is there again.
/// </summary>
internal sealed class RemoteWorker(
    int number,
    MemberName member,
    int replacements,
    long formerPeakMemory,
    string session,
    ClusterOptions options,
    Action changed,
    Action<RemoteWorker, string> died
)
{
    private static readonly TimeSpan PollTime = TimeSpan.FromSeconds(1),
        SuspectTime = TimeSpan.FromSeconds(3),
        RetryTime = TimeSpan.FromMilliseconds(100);

    private readonly Lock gate = new();
    private readonly CancellationTokenSource lost = new();
    private readonly TaskCompletionSource<string> death = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private TaskCompletionSource attached = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Link? link;
    private long outstanding,
        generated,
        busySince,
        busyTicks,
        peakMemory = formerPeakMemory;
    private int samples,
        updates;

    /// <summary>The way to it: a grain on its silo.</summary>
    private sealed record Link(SiloAddress Address, IWorkerGrain Grain, CancellationTokenSource Cut);

    public int Number => number;
    public string Name => member.Name;
    public string Instance => member.Instance;
    public MemberName Member => member;
    public WorkerState State { get; private set; } = WorkerState.Joining;
    public int Version { get; private set; } = -1;

    /// <summary>Of the weights of <see cref="Version"/>, in <see cref="ElementType"/>.</summary>
    public ulong Hash { get; private set; }
    public ScalarType ElementType { get; private set; } = ScalarType.Float32;

    /// <summary>The worker's addresses in groups that receive weights, by the transport's name.</summary>
    public IReadOnlyDictionary<string, string> Reach { get; private set; } = new Dictionary<string, string>();
    public int ProcessId { get; set; }

    /// <summary>Its process is a child of this one, and is killed and started again here.</summary>
    public bool IsLocal { get; init; }

    /// <summary>Asked to leave: what it does not finish goes to others, and it is not to blame.</summary>
    public bool Drained { get; private set; }

    /// <summary>It has built its engine.</summary>
    public bool CameUp { get; private set; }

    /// <summary>It died of what it computed.</summary>
    public bool EngineFailed { get; private set; }
    public int Replacements => replacements;

    /// <summary>Completes with the reason when the worker is dead.</summary>
    public Task<string> Death => death.Task;
    public long Outstanding => Interlocked.Read(ref outstanding);
    public int OutstandingSamples => Volatile.Read(ref samples);
    public SiloAddress? Address
    {
        get
        {
            lock (gate)
                return link?.Address;
        }
    }

    public WorkerStatus Status
    {
        get
        {
            lock (gate)
            {
                long ticks = busyTicks + (outstanding > 0 ? Stopwatch.GetTimestamp() - busySince : 0);
                if (IsLocal && ProcessId != 0 && State != WorkerState.Dead)
                    peakMemory = Math.Max(peakMemory, ProcessMemory.Peak(ProcessId));
                return new(
                    number,
                    Name,
                    Instance,
                    ProcessId,
                    State,
                    Version,
                    outstanding,
                    ticks == 0 ? 0 : generated / ((double)ticks / Stopwatch.Frequency),
                    peakMemory,
                    replacements
                );
            }
        }
    }

    /// <summary>Changes the state where the life of a worker allows it; false where it doesn't.</summary>
    public bool Become(WorkerState next)
    {
        lock (gate)
        {
            if (!State.MayBecome(next))
                return false;
            State = next;
            CameUp |= next == WorkerState.Waiting;
            Drained |= next == WorkerState.Draining;
        }
        changed();
        return true;
    }

    /// <summary>The worker is of no more use: whoever waits for it stops, and its process is ended.</summary>
    public void Fail(string reason)
    {
        if (!Become(WorkerState.Dead))
            return;
        death.TrySetResult(reason);
        lost.Cancel();
        died(this, reason);
    }

    // ---- the way to it

    /// <returns>Whether it is the first time.</returns>
    public bool Attach(ClusterSilo silo, SiloAddress address)
    {
        lock (gate)
        {
            bool first = link is null && !attached.Task.IsCompleted;
            link?.Cut.Cancel();
            link = new(address, silo.Grains.GetGrain<IWorkerGrain>(address.ToParsableString()), new());
            attached.TrySetResult();
            return first;
        }
    }

    /// <summary>This process joins another cluster: the worker will be found there again, or not in time.</summary>
    public void Detach()
    {
        CancellationTokenSource? cut;
        lock (gate)
        {
            if (link is null)
                return;
            (cut, link) = (link.Cut, null);
            attached = new(TaskCreationOptions.RunContinuationsAsynchronously);
        }
        cut.Cancel();
        Become(WorkerState.Suspect);
        _ = MissAsync();
    }

    private async Task MissAsync()
    {
        try
        {
            await LinkAsync(lost.Token);
        }
        catch (TimeoutException e)
        {
            Fail(e.Message);
        }
        catch (OperationCanceledException) { }
    }

    private async Task<Link> LinkAsync(CancellationToken cancellation)
    {
        while (true)
        {
            Task arrival;
            lock (gate)
            {
                if (link is { } there)
                    return there;
                arrival = attached.Task;
            }
            try
            {
                await arrival.WaitAsync(options.RejoinTimeout, cancellation);
            }
            catch (TimeoutException)
            {
                throw new TimeoutException(
                    $"Waited {options.RejoinTimeout.TotalSeconds:0} s for {Name} to join the cluster again"
                );
            }
        }
    }

    /// <summary>Builds its engine.</summary>
    /// <returns>False where that failed; the worker is dead then.</returns>
    public async Task<bool> SetupAsync(WorkerSetup setup, CancellationToken cancellation)
    {
        var message = new SetupMessage(session, Wire.ToJson(setup with { TokenizerJson = null }), setup.TokenizerJson);
        var reply = await CallAsync(g => g.SetupAsync(message), options.StartTimeout, "build its engine", cancellation);
        ProcessId = reply.ProcessId;
        ElementType = Tensors.ElementType.ParseScalar(reply.ElementType).Scalar;
        Reach = reply.Reach;
        if (reply.Failure is { } failure)
            Fail("it could not build its engine: " + failure);
        return Become(WorkerState.Waiting);
    }

    // ---- weights

    /// <summary>Pauses it between two steps for an update, or, where the update overlaps with decoding, only announces it.</summary>
    /// <param name="timeout">For what it does first: running sequences may have to finish.</param>
    public async Task PrepareAsync(
        int version,
        OnUpdate onUpdate,
        bool overlap,
        TimeSpan timeout,
        CancellationToken cancellation
    )
    {
        if (!overlap)
        {
            if (!Become(WorkerState.Receiving))
                throw new InvalidOperationException($"{Name} is {State} and can't receive weights");
            Version = -1;
        }
        var message = new PrepareMessage(
            session,
            UpdateName(++updates),
            version,
            onUpdate,
            overlap,
            (options.SyncTimeout + options.ResponseTimeout).TotalSeconds
        );
        if ((await CallAsync(g => g.PrepareAsync(message), timeout, "pause between two steps", cancellation)).TakenOver)
            throw new TakenOverException($"{Name} belongs to another trainer now");
    }

    private string UpdateName(int count) => $"{session}/update {count}";

    /// <param name="attempt">Another number than before transfers again.</param>
    public Task<ReceiptMessage> ReceiveAsync(
        IEnumerable<WeightInvitation> invitations,
        int attempt,
        CancellationToken cancellation
    )
    {
        string update = UpdateName(updates);
        string[] texts = [.. invitations.Select(Wire.ToJson)];
        return CallAsync(
            g => g.ReceiveAsync(update, attempt, texts, options.SyncTimeout.TotalSeconds / 2),
            options.SyncTimeout,
            "receive the weights",
            cancellation
        );
    }

    /// <summary>Best effort: the attempt can't succeed any more.</summary>
    public async Task CancelTransferAsync(int attempt)
    {
        string update = UpdateName(updates);
        try
        {
            await CallAsync(
                g => Void(g.CancelTransferAsync(update, attempt)),
                options.ResponseTimeout,
                "cancel a transfer",
                CancellationToken.None
            );
        }
        catch (Exception e) when (e is IOException or TimeoutException) { } // then it is lost too, and whoever waits for it learns so
    }

    /// <summary>Declares the received weights good, and ends the pause.</summary>
    /// <returns>Seconds in which its engine stood.</returns>
    /// <exception cref="IOException">It says that it holds others.</exception>
    public async Task<double> CommitAsync(int version, ulong hash, TimeSpan timeout, CancellationToken cancellation)
    {
        string update = UpdateName(updates);
        if (State != WorkerState.Receiving && !Become(WorkerState.Receiving))
            throw new InvalidOperationException($"{Name} is {State} and can't take weights");
        var reply = await CallAsync(
            g => g.CommitAsync(update, version),
            timeout,
            $"commit weights version {version}",
            cancellation
        );
        if ((reply.Version, reply.Hash) != (version, hash))
            throw new IOException(
                $"it says that it holds weights version {reply.Version} with hash {reply.Hash:x16}, expected version {version} with hash {hash:x16}; it can't be sampled from"
            );
        (Version, Hash) = (version, hash);
        Become(WorkerState.Ready);
        return reply.PausedSeconds;
    }

    /// <summary>What it received is of no use; it waits for the next update.</summary>
    public async Task AbandonAsync(CancellationToken cancellation)
    {
        string update = UpdateName(updates);
        await CallAsync(
            g => Void(g.AbandonAsync(update)),
            options.ResponseTimeout,
            "abandon a weight update",
            cancellation
        );
        if (State == WorkerState.Receiving)
            Become(WorkerState.Waiting);
    }

    /// <summary>What it says, on being asked, that its engine computes with.</summary>
    public Task<CommitReply> HeldWeightsAsync(CancellationToken cancellation) =>
        CallAsync(g => g.HeldWeightsAsync(), options.ResponseTimeout, "hash its weights", cancellation);

    /// <exception cref="TimeoutException">It does not answer.</exception>
    public Task PingAsync(TimeSpan timeout, CancellationToken cancellation) =>
        CallAsync(g => Void(g.PingAsync()), timeout, "answer", cancellation);

    // ---- rollouts

    /// <summary>Runs the requests, and hands over what comes of them as it arrives, until <paramref name="owed"/> says that no sample is missing.</summary>
    /// <param name="stream">Tokens are wanted as they are sampled, not completions alone.</param>
    /// <returns>False when it took none, for it was asked to leave.</returns>
    /// <exception cref="ArgumentException">No worker can serve the requests; says why.</exception>
    public async Task<bool> RolloutAsync(
        string batch,
        (int Version, ulong Hash) weights,
        IReadOnlyList<GenerationRequest> requests,
        bool stream,
        Func<int> owed,
        Action<TokenEvent> came,
        CancellationToken cancellation
    )
    {
        ulong hash = weights.Version == Version ? Hash : weights.Hash; // in its own element type
        var message = new SubmitMessage(
            session,
            batch,
            weights.Version,
            hash,
            [.. requests.Select(RequestMessage.From)],
            stream
        );
        var taken = await CallAsync(
            g => g.SubmitAsync(message),
            options.ResponseTimeout,
            $"take {requests.Count} requests",
            cancellation
        );
        if (taken.TakenOver)
            throw new TakenOverException($"{Name} belongs to another trainer now");
        if (taken.Refused is { } refused)
            throw new IOException(refused);
        if (taken.Draining)
        {
            Become(WorkerState.Draining);
            return false;
        }
        long progress = -1,
            progressAt = Stopwatch.GetTimestamp();
        int received = 0;
        bool done = false;
        while (owed() > 0)
        {
            int arrived = received;
            var reply = await CallAsync(
                g => g.NextAsync(batch, arrived, PollTime.TotalSeconds),
                PollTime + options.ResponseTimeout,
                "say what has finished",
                cancellation
            );
            if (reply.Rejected is { } rejected)
                throw new ArgumentException(rejected);
            if (reply.Failed is { } failed)
            {
                EngineFailed = true;
                throw new IOException("its engine failed: " + failed);
            }
            if (reply.Draining)
                Become(WorkerState.Draining);
            lock (gate)
                peakMemory = Math.Max(peakMemory, reply.PeakMemory);
            foreach (var e in reply.Events)
                came(e.ToEvent());
            received += reply.Events.Length;
            done = reply.Done;
            if (done && owed() > 0 && reply.Events.Length == 0)
                throw new IOException($"it says that all is done, with {owed()} samples missing");
            Watch(reply.Progress, ref progress, ref progressAt, owed);
        }
        if (!done)
            _ = AbortAsync(batch); // others were faster; nothing more is wanted
        return true;
    }

    private void Watch(long now, ref long progress, ref long progressAt, Func<int> owed)
    {
        if (now != progress || State == WorkerState.Receiving)
            (progress, progressAt) = (now, Stopwatch.GetTimestamp());
        var still = Stopwatch.GetElapsedTime(progressAt);
        if (still > options.StallTimeout && owed() > 0)
            throw new TimeoutException(
                $"its engine made no step for {still.TotalSeconds:0} s with {owed()} samples to do"
            );
        if (still > options.StallTimeout / 4)
            Become(WorkerState.Suspect);
        else if (State == WorkerState.Suspect)
            Become(WorkerState.Ready);
    }

    /// <summary>Best effort: the samples are no longer wanted.</summary>
    public Task AbortAsync(string batch) => EndAsync(g => g.AbortAsync(batch), "abort a batch");

    /// <summary>Best effort: what still runs of the batch comes as aborted, with the tokens it has.</summary>
    public Task BreakOffAsync(string batch) => EndAsync(g => g.BreakOffAsync(batch), "break off a batch");

    private async Task EndAsync(Func<IWorkerGrain, Task> call, string what)
    {
        if (State is WorkerState.Dead or WorkerState.Joining)
            return;
        try
        {
            await CallAsync(g => Void(call(g)), options.ResponseTimeout, what, CancellationToken.None);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            Fail(e.Message);
        }
    }

    public async Task<EngineStatistics> StatisticsAsync(CancellationToken cancellation) =>
        Wire.FromJson<EngineStatistics>(
            await CallAsync(g => g.StatisticsAsync(), options.ResponseTimeout, "say how it is", cancellation)
        );

    /// <summary>Counts work given (positive) and finished (negative).</summary>
    public void AddOutstanding(long tokens, int samplesGiven, int generatedTokens = 0)
    {
        lock (gate)
        {
            long now = Stopwatch.GetTimestamp();
            if (outstanding == 0)
                busySince = now;
            outstanding += tokens;
            samples += samplesGiven;
            generated += generatedTokens;
            if (outstanding == 0)
                busyTicks += now - busySince;
        }
    }

    // ---- calls

    private static async Task<bool> Void(Task task)
    {
        await task;
        return true;
    }

    private async Task<T> CallAsync<T>(
        Func<IWorkerGrain, Task<T>> call,
        TimeSpan timeout,
        string awaited,
        CancellationToken cancellation
    )
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation, lost.Token);
        long? brokenAt = null;
        while (true)
            try
            {
                var way = await LinkAsync(stop.Token);
                try
                {
                    return await CallOnceAsync(call(way.Grain), timeout, awaited, stop.Token, way.Cut.Token);
                }
                catch (Exception e)
                    when (!stop.IsCancellationRequested
                        && (way.Cut.IsCancellationRequested || e is OrleansException or ObjectDisposedException)
                    )
                {
                    // The way broke off, or membership doesn't know the worker yet; its silo may be about to come back elsewhere.
                    if (State == WorkerState.Ready)
                        Become(WorkerState.Suspect);
                    if (Stopwatch.GetElapsedTime(brokenAt ??= Stopwatch.GetTimestamp()) > options.RejoinTimeout)
                        throw new IOException(
                            $"For {options.RejoinTimeout.TotalSeconds:0} s {Name} can't be reached to {awaited}: {e.Message}",
                            e
                        );
                }
                await Task.Delay(RetryTime, stop.Token);
            }
            catch (OperationCanceledException)
                when (!cancellation.IsCancellationRequested && lost.IsCancellationRequested)
            {
                throw new IOException($"{Name} was lost while it was to {awaited}: {await Death}");
            }
    }

    private async Task<T> CallOnceAsync<T>(
        Task<T> answer,
        TimeSpan timeout,
        string awaited,
        CancellationToken stop,
        CancellationToken cut
    )
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(stop, cut);
        try
        {
            var suspicious = SuspectTime + PollTime;
            if (timeout > suspicious && State == WorkerState.Ready)
            {
                try
                {
                    return await answer.WaitAsync(suspicious, either.Token);
                }
                catch (TimeoutException) when (!answer.IsCompleted)
                {
                    Become(WorkerState.Suspect);
                }
                timeout -= suspicious;
            }
            var late = await answer.WaitAsync(timeout, either.Token);
            if (State == WorkerState.Suspect)
                Become(WorkerState.Ready);
            return late;
        }
        catch (TimeoutException) when (!answer.IsCompleted)
        {
            throw new TimeoutException(
                $"Waited {timeout.TotalSeconds:0.#} s for {Name} (process {ProcessId}) to {awaited}"
            );
        }
    }
}
