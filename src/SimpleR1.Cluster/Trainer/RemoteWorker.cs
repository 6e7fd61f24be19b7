using System.Diagnostics;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Trainer.Rollouts;
using SimpleR1.Cluster.Wire;
using SimpleR1.Inference;
using SimpleR1.WeightSync;
using static TorchSharp.torch;

namespace SimpleR1.Cluster.Trainer;

/// <summary>A place among the trainer's workers, and the process that has it now.</summary>
/// <param name="Number">From 1; a replacement keeps the number.</param>
/// <param name="Replacements">How often the process was replaced.</param>
/// <param name="FormerPeakMemory">Most bytes that an earlier process of this number held.</param>
internal sealed record WorkerSlot(int Number, MemberName Member, int Replacements, long FormerPeakMemory);

/// <summary>One worker process as the trainer sees it, from its start to its end: its state, weights, rollouts and load.</summary>
internal sealed class RemoteWorker
{
    private readonly WorkerSlot slot;
    private readonly string session;
    private readonly ClusterOptions options;
    private readonly Action changed;
    private readonly Action<RemoteWorker, string> died;
    private readonly WorkerLink link;
    private readonly Lock gate = new();
    private readonly CancellationTokenSource lost = new();
    private readonly TaskCompletionSource<string> death = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long outstanding,
        generated,
        busySince,
        busyTicks,
        peakMemory;
    private int samples,
        updates;
    private bool hasJoined;
    private MemoryPart? part;

    /// <param name="session">The pool's name, by which the worker knows its trainer.</param>
    /// <param name="changed">Called when the state has changed.</param>
    /// <param name="died">Called once with the reason when the worker is dead.</param>
    public RemoteWorker(
        WorkerSlot slot,
        string session,
        ClusterOptions options,
        Action changed,
        Action<RemoteWorker, string> died
    )
    {
        this.slot = slot;
        this.session = session;
        this.options = options;
        this.changed = changed;
        this.died = died;
        link = new(this, options);
        peakMemory = slot.FormerPeakMemory;
    }

    public int Number => slot.Number;
    public string Name => slot.Member.Name;
    public string Instance => slot.Member.Instance;
    public int Replacements => slot.Replacements;
    public WorkerState State { get; private set; } = WorkerState.Joining;

    /// <summary>Version of the weights that the worker has proven to hold; -1 for none.</summary>
    public int Version { get; private set; } = -1;

    /// <summary>Hash of these weights, in <see cref="ElementType"/>.</summary>
    public ulong Hash { get; private set; }
    public ScalarType ElementType { get; private set; } = ScalarType.Float32;

    /// <summary>The worker's addresses in groups that receive weights, by the transport's name.</summary>
    public IReadOnlyDictionary<string, string> Reach { get; private set; } = new Dictionary<string, string>();
    public int ProcessId { get; set; }

    /// <summary>Most sequences of one step of the worker's engine.</summary>
    public int MaxSequences { get; private set; }

    /// <summary>Most samples that the worker gets before it has finished others.</summary>
    public int Window => options.QueueSamples > 0 ? options.QueueSamples : 2 * MaxSequences;

    /// <summary>The worker's KV cache is a part of the trainer's memory.</summary>
    public bool BorrowsMemory => part is not null;

    /// <summary>The process is a child of this one, and is killed and started again here.</summary>
    public bool IsLocal { get; init; }

    /// <summary>The worker was asked to leave: its unfinished work goes to others, and the requests are not to blame.</summary>
    public bool Drained { get; private set; }

    /// <summary>The worker has built its engine.</summary>
    public bool CameUp { get; private set; }

    /// <summary>The worker died because its engine failed.</summary>
    public bool EngineFailed { get; private set; }

    /// <summary>Completes with the reason when the worker is dead.</summary>
    public Task<string> Death => death.Task;

    /// <summary>Cancelled when the worker is dead.</summary>
    public CancellationToken Lost => lost.Token;

    /// <summary>Most tokens that the worker's unfinished requests may still take.</summary>
    public long Outstanding => Interlocked.Read(ref outstanding);
    public int OutstandingSamples => Volatile.Read(ref samples);
    public SiloAddress? Address => link.Address;

    public WorkerStatus Status
    {
        get
        {
            lock (gate)
            {
                long ticks = busyTicks + (outstanding > 0 ? Stopwatch.GetTimestamp() - busySince : 0);
                if (IsLocal && ProcessId != 0 && State != WorkerState.Dead)
                    peakMemory = Math.Max(peakMemory, ProcessMemory.Peak(ProcessId));

                return new()
                {
                    Number = Number,
                    Name = Name,
                    Instance = Instance,
                    ProcessId = ProcessId,
                    State = State,
                    WeightVersion = Version,
                    OutstandingTokens = outstanding,
                    TokensPerSecond = ticks == 0 ? 0 : generated / ((double)ticks / Stopwatch.Frequency),
                    PeakMemoryBytes = peakMemory,
                    Replacements = Replacements,
                };
            }
        }
    }

    /// <summary>Changes the state where the life of a worker allows it.</summary>
    /// <returns>Whether it does.</returns>
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

    /// <summary>Notes that the worker has joined.</summary>
    /// <returns>False when that was known: its connection was lost and is back.</returns>
    public bool MarkJoined() => !Interlocked.Exchange(ref hasJoined, true);

    /// <summary>Declares the worker dead: all calls to it end, and so does its process.</summary>
    public void Fail(string reason)
    {
        if (!Become(WorkerState.Dead))
            return;

        death.TrySetResult(reason);
        lost.Cancel();
        died(this, reason);
    }

    /// <inheritdoc cref="WorkerLink.Attach"/>
    public bool Attach(ClusterSilo silo, SiloAddress address) => link.Attach(silo, address);

    /// <inheritdoc cref="WorkerLink.Detach"/>
    public void Detach() => link.Detach();

    /// <summary>Has the worker build its engine.</summary>
    /// <returns>False where that failed, and the worker is dead.</returns>
    public async Task<bool> SetupAsync(WorkerSetup setup, CancellationToken cancellation)
    {
        if (IsLocal && options.Colocated is { } memory)
            part = await memory.PlaceAsync(Instance, link, options, cancellation);
        string settings = WireFormat.ToJson(setup with { TokenizerJson = null });
        var message = new SetupMessage(session, settings, setup.TokenizerJson, part);
        var reply = await link.CallAsync(
            grain => grain.SetupAsync(message),
            options.StartTimeout,
            "build its engine",
            cancellation
        );
        ProcessId = reply.ProcessId;
        ElementType = Tensors.ElementType.ParseScalar(reply.ElementType).Scalar;
        Reach = reply.Reach;
        MaxSequences = reply.MaxSequences;
        if (reply.Failure is { } failure)
            Fail("it could not build its engine: " + failure);

        return Become(WorkerState.Waiting);
    }

    /// <summary>Takes the trainer's memory back; the worker waits for the next update.</summary>
    /// <param name="version">Of the last update.</param>
    public async Task ReclaimAsync(int version, TimeSpan timeout, CancellationToken cancellation)
    {
        if (State != WorkerState.Waiting && !Become(WorkerState.Waiting))
            throw new InvalidOperationException($"{Name} is {State}, and the trainer needs its memory");

        Version = -1;
        var message = new ReclaimMessage
        {
            Session = session,
            Version = version,
            Drains = options.OnUpdate == OnUpdate.Drain,
            TimeoutSeconds = timeout.TotalSeconds,
        };
        await link.CallAsync(
            grain => grain.ReclaimAsync(message),
            timeout,
            "give the trainer's memory back",
            cancellation
        );
        options.Colocated!.EndLease(Instance);
    }

    /// <summary>Pauses the worker between two steps for an update; where the update overlaps with decoding, only announces it.</summary>
    /// <param name="timeout">Time until the pause: running sequences may have to finish first.</param>
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

        var message = new PrepareMessage
        {
            Session = session,
            Update = UpdateName(++updates),
            Version = version,
            OnUpdate = onUpdate,
            Overlap = overlap,
            TimeoutSeconds = (options.SyncTimeout + options.ResponseTimeout).TotalSeconds,
        };
        var reply = await link.CallAsync(
            grain => grain.PrepareAsync(message),
            timeout,
            "pause between two steps",
            cancellation
        );
        if (reply.TakenOver)
            throw TakenOver();
    }

    private string UpdateName(int count) => $"{session}/update {count}";

    public TakenOverException TakenOver() => new($"{Name} belongs to another trainer now");

    /// <param name="attempt">A new number transfers again.</param>
    public Task<ReceiptMessage> ReceiveAsync(
        IEnumerable<WeightInvitation> invitations,
        int attempt,
        CancellationToken cancellation
    )
    {
        string update = UpdateName(updates);
        string[] texts = [.. invitations.Select(WireFormat.ToJson)];
        return link.CallAsync(
            grain => grain.ReceiveAsync(update, attempt, texts, options.SyncTimeout.TotalSeconds / 2),
            options.SyncTimeout,
            "receive the weights",
            cancellation
        );
    }

    /// <summary>Best effort: ends an attempt that can't succeed any more.</summary>
    public async Task CancelTransferAsync(int attempt)
    {
        string update = UpdateName(updates);
        try
        {
            await link.CallAsync(
                grain => grain.CancelTransferAsync(update, attempt),
                options.ResponseTimeout,
                "cancel a transfer",
                CancellationToken.None
            );
        }
        catch (Exception e) when (e is IOException or TimeoutException)
        {
            // The worker is lost too, and the call that waits for its receipt fails.
        }
    }

    /// <summary>Declares the received weights good, and ends the pause.</summary>
    /// <returns>Seconds in which the engine was paused.</returns>
    /// <exception cref="IOException">The worker reports that it holds other weights.</exception>
    public async Task<double> CommitAsync(int version, ulong hash, TimeSpan timeout, CancellationToken cancellation)
    {
        string update = UpdateName(updates);
        if (State != WorkerState.Receiving && !Become(WorkerState.Receiving))
            throw new InvalidOperationException($"{Name} is {State} and can't take weights");

        if (BorrowsMemory)
            options.Colocated!.BeginLease(Instance);
        var reply = await link.CallAsync(
            grain => grain.CommitAsync(update, version),
            timeout,
            $"commit weights version {version}",
            cancellation
        );
        if (reply.Version != version || reply.Hash != hash)
            throw new IOException(
                $"it says that it holds weights version {reply.Version} with hash {reply.Hash:x16}, "
                    + $"expected version {version} with hash {hash:x16}; it can't be sampled from"
            );

        Version = version;
        Hash = hash;
        Become(WorkerState.Ready);

        return reply.PausedSeconds;
    }

    /// <summary>Drops the received weights; the worker waits for the next update.</summary>
    public async Task AbandonAsync(CancellationToken cancellation)
    {
        string update = UpdateName(updates);
        await link.CallAsync(
            grain => grain.AbandonAsync(update),
            options.ResponseTimeout,
            "abandon a weight update",
            cancellation
        );
        if (State == WorkerState.Receiving)
            Become(WorkerState.Waiting);
    }

    /// <summary>Version and hash, computed now, of the weights that the worker's engine computes with.</summary>
    public Task<CommitReply> HeldWeightsAsync(CancellationToken cancellation) =>
        link.CallAsync(grain => grain.HeldWeightsAsync(), options.ResponseTimeout, "hash its weights", cancellation);

    /// <exception cref="TimeoutException">The worker does not answer.</exception>
    public Task PingAsync(TimeSpan timeout, CancellationToken cancellation) =>
        link.CallAsync(grain => grain.PingAsync(), timeout, "answer", cancellation);

    /// <inheritdoc cref="WorkerRollout.RunAsync"/>
    public Task<bool> RolloutAsync(WorkerRun run, CancellationToken cancellation) =>
        new WorkerRollout(this, link, run, session, options).RunAsync(cancellation);

    public void MarkEngineFailed() => EngineFailed = true;

    public void AddPeakMemory(long bytes)
    {
        lock (gate)
            peakMemory = Math.Max(peakMemory, bytes);
    }

    /// <summary>Best effort: the samples are no longer needed.</summary>
    public Task DropBatchAsync(string batch) => TryAsync(grain => grain.DropBatchAsync(batch), "drop a batch");

    /// <summary>Best effort: unfinished samples of the batch come as aborted, with the tokens they have.</summary>
    public Task CancelBatchAsync(string batch) => TryAsync(grain => grain.CancelBatchAsync(batch), "cancel a batch");

    private async Task TryAsync(Func<IWorkerGrain, Task> call, string awaited)
    {
        if (State is WorkerState.Dead or WorkerState.Joining)
            return;

        try
        {
            await link.CallAsync(call, options.ResponseTimeout, awaited, CancellationToken.None);
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            Fail(e.Message);
        }
    }

    public async Task<EngineStatistics> StatisticsAsync(CancellationToken cancellation)
    {
        string json = await link.CallAsync(
            grain => grain.StatisticsAsync(),
            options.ResponseTimeout,
            "report its statistics",
            cancellation
        );
        return WireFormat.FromJson<EngineStatistics>(json);
    }

    /// <summary>Counts work that was assigned (positive) and finished (negative).</summary>
    public void AddOutstanding(long tokens, int sampleCount, int generatedTokens = 0)
    {
        lock (gate)
        {
            long now = Stopwatch.GetTimestamp();
            if (outstanding == 0)
                busySince = now;
            outstanding += tokens;
            samples += sampleCount;
            generated += generatedTokens;
            if (outstanding == 0)
                busyTicks += now - busySince;
        }
    }
}
