using System.Diagnostics;
using SimpleR1.Cluster.Wire;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.Security;
using static TorchSharp.torch;

namespace SimpleR1.Cluster.Worker;

/// <summary>
/// The weights that a worker's engine computes with, and the worker's end of an update: prepare, receive, verify, then
/// commit or abandon. Each call may be repeated when its answer was lost; it has the effect of one.
/// </summary>
internal sealed class LiveWeights : IDisposable
{
    private readonly Func<EngineThread> engine;
    private readonly int threads;
    private readonly IReadOnlyList<IWeightTransport> transports;
    private readonly TensorThread receiving = new("weights"); // where an update overlaps with decoding
    private FlatWeights? live;
    private FlatWeights? spare; // received into while the engine computes with the live ones
    private WorkerUpdate? update;
    private EnginePause? pause;
    private (int Version, ulong Hash) held = (-1, 0);

    /// <param name="engine">The engine that computes with the weights; throws where there is none yet.</param>
    /// <param name="threads">Threads of this worker's tensor code.</param>
    public LiveWeights(Func<EngineThread> engine, int threads, ClusterKey? key)
    {
        this.engine = engine;
        this.threads = threads;
        transports = WeightTransports.ForWorker(key);
    }

    /// <summary>For tests: damages weights that have arrived.</summary>
    internal Action<FlatWeights>? Damage { get; set; }

    /// <summary>For tests: changes what the worker reports about committed weights.</summary>
    internal Func<CommitReply, CommitReply> Claim { get; set; } = reply => reply;

    /// <summary>Version of the committed weights; -1 where there are none that may be sampled from.</summary>
    public int Version => held.Version;

    /// <summary>Hash of the weights of <see cref="Version"/>.</summary>
    public ulong Hash => held.Hash;

    /// <summary>Whether the engine is paused for an update.</summary>
    public bool IsPaused => pause is not null;

    public ScalarType ElementType => live?.Flat.dtype ?? ScalarType.Float32;

    /// <summary>The addresses at which collective transports reach the weights, by the transport's name.</summary>
    public Dictionary<string, string> Reach()
    {
        var reach = new Dictionary<string, string>();
        foreach (var transport in transports)
            if (live is not null && transport.ReceiverAddress(live) is { } address)
                reach.Add(transport.Name, address);
        return reach;
    }

    /// <summary>
    /// Whether the engine has memory of the trainer, which it may touch only while it holds weights: a commit lends the
    /// memory with them, until the trainer reclaims both.
    /// </summary>
    public bool BorrowsMemory { get; set; }

    /// <summary>Whether the engine waits for the trainer's memory, with the requests that it has.</summary>
    public bool IsReclaimed => BorrowsMemory && held.Version < 0;

    /// <summary>Takes weights that are mapped in place of any former ones, on the engine's thread.</summary>
    public FlatWeights Use(FlatWeights mapped) => live = mapped;

    /// <summary>Makes empty weights in place of any former ones, on the engine's thread.</summary>
    public FlatWeights Allocate(WeightLayout layout, CudaDevice? gpu, ScalarType type)
    {
        live = gpu is null ? new(layout, type, CPU) : new(layout, type, gpu);
        return live;
    }

    /// <summary>Frees the weights' memory; the engine must not compute any more.</summary>
    public void Free()
    {
        live?.Dispose();
        spare?.Dispose();
        live = null;
        spare = null;
    }

    /// <summary>Declares that no version is held: nothing may be sampled until the next commit.</summary>
    public void Forget()
    {
        held = (-1, 0);
        update = null;
        if (live is null)
            return;
        live.Version = -1;
        live.ProvenHash = 0;
    }

    /// <summary>
    /// Pauses the engine between two steps, where the update does not overlap with decoding, and returns when it is
    /// paused.
    /// </summary>
    public async Task PrepareAsync(PrepareMessage message)
    {
        if (update?.Message.Update != message.Update)
        {
            // The former update was cancelled. An engine that is paused for it stays paused, and receives again.
            update?.CancelCurrent();
            update = new(message);
            pause?.Extend();
        }
        if (message.Overlap)
            return;
        pause ??= BeginPause(message);
        await pause.Begun;
    }

    private EnginePause BeginPause(PrepareMessage message)
    {
        var timeout = TimeSpan.FromSeconds(message.TimeoutSeconds);
        return EnginePause.Begin(engine(), Drain, timeout, EndProcess);

        void Drain(Engine running)
        {
            if (message.OnUpdate == OnUpdate.Drain)
                running.FinishStarted(timeout);
        }

        // Unverified weights must never be sampled from, so the process ends here.
        void EndProcess() =>
            WorkerProcess.End(
                "the engine was paused for a weight update that was neither sent nor committed "
                    + $"within {timeout.TotalSeconds:0} s"
            );
    }

    /// <summary>Receives the weights by the first of the invitations (JSON) that this process can follow.</summary>
    /// <param name="attempt">Another attempt transfers again; the same one returns the same receipt.</param>
    public Task<ReceiptMessage> ReceiveAsync(string name, int attempt, string[] invitations, TimeSpan timeout)
    {
        var current = Current(name);
        if (current.Attempt == attempt)
            return current.Receipt;
        bool overlaps = current.Message.Overlap;
        if (!overlaps && pause is null)
            throw new InvalidOperationException($"The engine is not paused for weight update {name}");

        var received = new TaskCompletionSource<ReceiptMessage>(TaskCreationOptions.RunContinuationsAsynchronously);
        var cancellation = current.Begin(attempt, received.Task);
        if (overlaps)
            _ = receiving.RunAsync(() => ReceiveInto(Spare()));
        else
            pause!.Order(_ =>
            {
                ReceiveInto(live!);
                return true;
            });
        return received.Task;

        void ReceiveInto(FlatWeights into)
        {
            try
            {
                var parsed = invitations.Select(WireFormat.FromJson<WeightInvitation>).ToArray();
                received.SetResult(Receive(current.Message.Version, into, parsed, timeout, cancellation));
            }
            catch (Exception e)
            {
                received.SetException(e);
            }
        }
    }

    private ReceiptMessage Receive(
        int version,
        FlatWeights into,
        WeightInvitation[] invitations,
        TimeSpan timeout,
        CancellationToken cancellation
    )
    {
        long start = Stopwatch.GetTimestamp();
        if (into == live)
        {
            live.Version = -1; // from the first byte until the commit
            held = (-1, 0);
        }

        // The first invitation that any transport can follow decides. Weights of the trainer are never written to.
        var usable = invitations.SelectMany(
            invitation => transports.Where(t => t.CanReceive(invitation) && t.IsInPlace == into.IsMapped),
            (invitation, transport) => (invitation, transport)
        );
        var (chosen, by) = usable.FirstOrDefault();
        if (by is null)
            return Failed(
                "none",
                "this worker can follow none of the transports offered "
                    + $"({string.Join(", ", invitations.Select(i => i.Transport))}); "
                    + "shared memory needs a trainer on the same machine, in the same container and of the same user"
            );

        try
        {
            if (chosen.Plan.Version != version)
                throw new InvalidOperationException(
                    $"the plan is of version {chosen.Plan.Version}, the update of {version}"
                );
            var (hash, hashSeconds) = ReceiveBy(by, chosen, into, timeout, cancellation);
            return new()
            {
                Version = version,
                Hash = hash,
                Seconds = Elapsed(),
                Transport = by.Name,
                HashSeconds = hashSeconds,
            };
        }
        catch (Exception e) when (IsTransferFailure(e))
        {
            into.ProvenHash = 0;
            return Failed(by.Name, e.Message);
        }

        double Elapsed() => Stopwatch.GetElapsedTime(start).TotalSeconds;
        ReceiptMessage Failed(string transport, string reason) =>
            new()
            {
                Version = -1,
                Seconds = Elapsed(),
                Transport = transport,
                Failure = reason,
            };
    }

    private static bool IsTransferFailure(Exception e) =>
        e
            is IOException
                or TimeoutException
                or InvalidOperationException
                or OperationCanceledException
                or CudaException;

    private ReceivedWeights ReceiveBy(
        IWeightTransport transport,
        WeightInvitation invitation,
        FlatWeights into,
        TimeSpan timeout,
        CancellationToken cancellation
    )
    {
        if (!transport.KeepsProvenBase)
            into.ProvenHash = 0; // weights that others change cannot be the base of a delta
        var received = transport.Receive(invitation, into, timeout, cancellation);
        if (Damage is not null)
        {
            Damage(into);
            received = received with { Hash = WeightHash.Of(into) };
        }
        into.ProvenHash = received.Hash;
        return received;
    }

    /// <summary>
    /// Weights like the live ones. On a GPU they have their own stream, so that receiving and decoding do not wait for
    /// each other.
    /// </summary>
    private FlatWeights Spare()
    {
        CpuParallel.Threads = threads;
        spare ??= live!.Device is { } gpu
            ? new FlatWeights(live.Layout, live.Flat.dtype, gpu.WithOwnStream())
            : new FlatWeights(live.Layout, live.Flat.dtype, CPU);
        return spare;
    }

    /// <summary>
    /// Cancels an attempt to receive that cannot succeed, because another worker of its group was lost.
    /// </summary>
    public void CancelTransfer(string name, int attempt)
    {
        if (update is { } current && current.Message.Update == name)
            current.Cancel(attempt);
    }

    /// <summary>Commits the received weights: the engine samples from them from now on.</summary>
    /// <exception cref="InvalidOperationException">The weights of this version were not received here.</exception>
    public async Task<CommitReply> CommitAsync(string name, int version)
    {
        if (update is null && held.Version == version)
            return Claim(new(held.Version, held.Hash, 0)); // committed before; the answer was lost
        var current = Current(name);
        if (current.Attempt is null || (await current.Receipt).Version != version)
            throw new InvalidOperationException($"Weights version {version} were not received here");

        double paused = 0;
        if (pause is { } standing)
        {
            standing.Order(running =>
            {
                Commit(current.Message, running);
                paused = Stopwatch.GetElapsedTime(standing.BegunAt).TotalSeconds;
                return false;
            });
            await standing.Ended;
        }
        else
            paused = await engine().BetweenStepsAsync(running => CommitBetweenSteps(current.Message, running));

        pause = null;
        update = null;
        return Claim(new(held.Version, held.Hash, paused));
    }

    /// <returns>Seconds that the engine made no step.</returns>
    private double CommitBetweenSteps(PrepareMessage message, Engine running)
    {
        long since = Stopwatch.GetTimestamp();
        if (message.OnUpdate == OnUpdate.Drain)
            running.FinishStarted(TimeSpan.FromSeconds(message.TimeoutSeconds));
        Commit(message, running);
        return Stopwatch.GetElapsedTime(since).TotalSeconds;
    }

    private void Commit(PrepareMessage message, Engine running)
    {
        if (message.Overlap)
            Copy(spare!, live!);
        live!.Version = message.Version;
        held = (message.Version, live.ProvenHash);
        running.SetWeightVersion(message.Version);
        running.ResetPrefixCache();
        if (message.OnUpdate == OnUpdate.Recompute)
            running.RecomputeRunning();
        running.Resume();
    }

    /// <summary>
    /// The swap of an update that overlapped: one copy within the device, hashed again where that costs nothing.
    /// </summary>
    private static void Copy(FlatWeights from, FlatWeights to)
    {
        if (to.Device is { } gpu)
        {
            gpu.CopyWithin(from.Pointer, to.Pointer, to.ByteLength);
            gpu.Synchronize();
            to.ProvenHash = WeightHash.Of(to);
        }
        else
            to.ProvenHash = WeightHash.CopyAndHash(from.Pointer, to.Pointer, to.ByteLength);
    }

    /// <summary>
    /// Ends the update without weights that could be sampled from; one that overlapped leaves the live weights as they
    /// were.
    /// </summary>
    public async Task AbandonAsync(string name)
    {
        if (update is null)
            return; // abandoned before; the answer was lost
        Current(name).CancelCurrent();
        if (pause is { } standing)
        {
            standing.Order(running =>
            {
                Forget(); // no request is taken from now on
                running.ResetPrefixCache();
                if (BorrowsMemory)
                    running.Suspend();
                return false;
            });
            await standing.Ended;
        }
        pause = null;
        update = null;
    }

    /// <summary>
    /// Gives the trainer's memory back. When this returns, nothing that this process has launched touches it.
    /// </summary>
    public Task ReclaimAsync(ReclaimMessage message) =>
        engine()
            .BetweenStepsAsync(running =>
            {
                if (!BorrowsMemory || held.Version > message.Version)
                    return false; // a late repetition of a call that was answered: a later lease stays
                if (message.Drains)
                    running.FinishStarted(TimeSpan.FromSeconds(message.TimeoutSeconds));
                running.Suspend();
                Forget();
                return true;
            });

    /// <summary>
    /// Version and hash, computed now between two steps, of the weights that the engine computes with.
    /// </summary>
    public Task<CommitReply> HeldWeightsAsync() =>
        engine()
            .BetweenStepsAsync(running => new CommitReply(running.WeightVersion, WeightHash.Of(running.Weights), 0));

    private WorkerUpdate Current(string name) =>
        update is { } current && current.Message.Update == name
            ? current
            : throw new InvalidOperationException($"Weight update {name} is not under way here");

    public void Dispose()
    {
        foreach (var transport in transports)
            transport.Dispose();
        Free();
    }
}
