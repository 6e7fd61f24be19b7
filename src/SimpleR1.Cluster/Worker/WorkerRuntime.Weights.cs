using System.Collections.Concurrent;
using System.Diagnostics;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.Nccl;
using SimpleR1.WeightSync.SharedMemory;
using SimpleR1.WeightSync.Tcp;

namespace SimpleR1.Cluster.Worker;

/// <summary>The worker's end of a weight update: prepare, receive, commit.</summary>
internal sealed partial class WorkerRuntime
{
    private readonly IWeightTransport[] transports =
    [
        new NcclTransport(),
        new SharedMemoryTransport(),
        new TcpTransport(key: key),
    ];
    private readonly TensorThread receiving = new("weights"); // where an update overlaps with decoding
    private FlatWeights? spare; // received into while the live ones compute
    private Update? update;
    private Pause? pause;
    private (int Version, ulong Hash) held = (-1, 0);

    /// <summary>An update that is under way.</summary>
    private sealed record Update(PrepareMessage Message)
    {
        public (int Attempt, Task<ReceiptMessage> Receipt, CancellationTokenSource BrokenOff)? Received;

        /// <summary>The last attempt that was broken off; the call to make it may come after the call to break it off.</summary>
        public int LastBrokenOff;
    }

    /// <summary>The engine's thread while it stands between two steps and waits for what to do with the weights.</summary>
    private sealed class Pause
    {
        public readonly BlockingCollection<Func<Engine, bool>> Orders = [];
        public readonly TaskCompletionSource Begun = new(TaskCreationOptions.RunContinuationsAsynchronously);
        public Task Ended = Task.CompletedTask;
        public long BegunAt;
    }

    /// <summary>For tests: what is done to weights that have arrived, and to what is said about them.</summary>
    internal Action<FlatWeights>? Damage { get; set; }
    internal Func<CommitReply, CommitReply> Claim { get; set; } = reply => reply;

    private bool Paused => pause is not null;
    private string? NcclGpu =>
        weights?.Device is { } gpu && NcclTransport.Missing is null ? NcclTransport.Identify(gpu) : null;

    private void ForgetWeights()
    {
        held = (-1, 0);
        update = null;
        if (weights is not null)
            (weights.Version, weights.ProvenHash) = (-1, 0);
    }

    private void DisposeWeights()
    {
        weights?.Dispose();
        spare?.Dispose();
        (weights, spare) = (null, null);
    }

    /// <summary>Pauses between two steps, where the update does not overlap with decoding; again, for the same update, it answers when that has happened.</summary>
    public async Task<PrepareReply> PrepareAsync(PrepareMessage message)
    {
        if (current?.Session != message.Session)
            return new(TakenOver: true, held.Version);
        if (update?.Message.Update != message.Update)
        {
            update?.Received?.BrokenOff.Cancel(); // one that was broken off: where its engine is paused it stays so, and receives again
            update = new(message);
            if (pause is { } under)
                under.Orders.Add(_ => true); // its patience begins anew
        }
        if (!message.Overlap)
            await PauseAsync(message);
        return new(TakenOver: false, held.Version);
    }

    private Task PauseAsync(PrepareMessage message)
    {
        if (pause is { } under)
            return under.Begun.Task;
        var timeout = TimeSpan.FromSeconds(message.TimeoutSeconds);
        var fresh = pause = new();
        fresh.Ended = Running.BetweenStepsAsync(engine =>
        {
            if (message.OnUpdate == OnUpdate.Drain)
                engine.FinishStarted(timeout);
            fresh.BegunAt = Stopwatch.GetTimestamp();
            fresh.Begun.SetResult();
            while (fresh.Orders.TryTake(out var order, timeout))
                if (!order(engine))
                    return true;
            // Weights that nobody vouched for must not be sampled from: no way on from here.
            End(
                $"the engine was paused for a weight update that was neither sent nor committed within {timeout.TotalSeconds:0} s"
            );
            return false;
        });
        _ = fresh.Ended.ContinueWith(
            ended => fresh.Begun.TrySetException(ended.Exception!.InnerException!),
            CancellationToken.None,
            TaskContinuationOptions.OnlyOnFaulted,
            TaskScheduler.Default
        );
        return fresh.Begun.Task;
    }

    public Task<ReceiptMessage> ReceiveAsync(string name, int attempt, string[] invitations, TimeSpan timeout)
    {
        var under = Under(name);
        if (under.Received is { } known)
        {
            if (known.Attempt == attempt)
                return known.Receipt;
            known.BrokenOff.Cancel();
        }
        var received = new TaskCompletionSource<ReceiptMessage>(TaskCreationOptions.RunContinuationsAsynchronously);
        var brokenOff = new CancellationTokenSource();
        if (attempt <= under.LastBrokenOff)
            brokenOff.Cancel();
        under.Received = (attempt, received.Task, brokenOff);
        bool Work(FlatWeights into)
        {
            try
            {
                received.SetResult(
                    Receive(
                        under,
                        into,
                        [.. invitations.Select(Wire.FromJson<WeightInvitation>)],
                        timeout,
                        brokenOff.Token
                    )
                );
            }
            catch (Exception e)
            {
                received.SetException(e);
            }
            return true;
        }
        if (under.Message.Overlap)
            _ = receiving.RunAsync(() => Work(Spare()));
        else
        {
            if (pause is null)
                throw new InvalidOperationException($"The engine is not paused for weight update {name}");
            pause.Orders.Add(_ => Work(weights!));
        }
        return received.Task;
    }

    private ReceiptMessage Receive(
        Update under,
        FlatWeights into,
        WeightInvitation[] invitations,
        TimeSpan timeout,
        CancellationToken brokenOff
    )
    {
        long start = Stopwatch.GetTimestamp();
        if (into == weights)
        {
            weights.Version = -1; // from the first byte on until the commit
            held = (-1, 0);
        }
        foreach (var invitation in invitations)
        foreach (var transport in transports)
            if (transport.CanReceive(invitation))
                try
                {
                    if (invitation.Plan.Version != under.Message.Version)
                        throw new InvalidOperationException(
                            $"the plan is of version {invitation.Plan.Version}, the update of {under.Message.Version}"
                        );
                    if (transport is not TcpTransport)
                        into.ProvenHash = 0; // what is changed by others can't be the base of a delta
                    var (hash, hashSeconds) = transport.Receive(invitation, into, timeout, brokenOff);
                    if (Damage is not null)
                    {
                        Damage(into);
                        hash = WeightHash.Of(into);
                    }
                    into.ProvenHash = hash;
                    return new(
                        invitation.Plan.Version,
                        hash,
                        Stopwatch.GetElapsedTime(start).TotalSeconds,
                        transport.Name,
                        null,
                        hashSeconds
                    );
                }
                catch (Exception e)
                    when (e
                            is IOException
                                or TimeoutException
                                or InvalidOperationException
                                or OperationCanceledException
                                or CudaException
                    )
                {
                    into.ProvenHash = 0;
                    return new(-1, 0, Stopwatch.GetElapsedTime(start).TotalSeconds, transport.Name, e.Message);
                }
        return new(
            -1,
            0,
            0,
            "none",
            $"this worker can follow none of the transports offered ({string.Join(", ", invitations.Select(i => i.Transport))}); "
                + "shared memory needs a trainer on the same machine, in the same container and of the same user"
        );
    }

    /// <summary>Weights like the live ones; on a GPU seen by a stream of its own, so that receiving and decoding do not wait for each other.</summary>
    private FlatWeights Spare()
    {
        CpuParallel.Threads = threads;
        return spare ??= weights!.Device is { } gpu
            ? new FlatWeights(weights.Layout, weights.Flat.dtype, gpu.Beside())
            : new FlatWeights(weights.Layout, weights.Flat.dtype, TorchSharp.torch.CPU);
    }

    /// <summary>Stops an attempt to receive that can't succeed, because another worker of its group was lost.</summary>
    public void BreakOff(string name, int attempt)
    {
        if (update is not { } under || under.Message.Update != name)
            return;
        under.LastBrokenOff = Math.Max(under.LastBrokenOff, attempt);
        if (under.Received is { } received && received.Attempt == attempt)
            received.BrokenOff.Cancel();
    }

    /// <summary>The weights are the trainer's: they are what is sampled from now on.</summary>
    public async Task<CommitReply> CommitAsync(string name, int version)
    {
        if (update is null && held.Version == version)
            return Claim(new(held.Version, held.Hash, 0)); // done before, and the answer was lost
        var under = Under(name);
        if (under.Received is not { } received || (await received.Receipt).Version != version)
            throw new InvalidOperationException($"Weights version {version} were not received here");
        double paused = 0;
        bool Commit(Engine engine, long since)
        {
            if (under.Message.Overlap)
                Copy(spare!, weights!);
            weights!.Version = version;
            held = (version, weights.ProvenHash);
            engine.SetWeightVersion(version);
            engine.ResetPrefixCache();
            if (under.Message.OnUpdate == OnUpdate.Recompute)
                engine.RecomputeRunning();
            paused = Stopwatch.GetElapsedTime(since).TotalSeconds;
            return false;
        }
        if (pause is { } standing)
        {
            standing.Orders.Add(engine => Commit(engine, standing.BegunAt));
            await standing.Ended;
        }
        else
            await Running.BetweenStepsAsync(engine =>
            {
                long since = Stopwatch.GetTimestamp();
                if (under.Message.OnUpdate == OnUpdate.Drain)
                    engine.FinishStarted(TimeSpan.FromSeconds(under.Message.TimeoutSeconds));
                return Commit(engine, since);
            });
        (pause, update) = (null, null);
        return Claim(new(held.Version, held.Hash, paused));
    }

    /// <summary>The swap of an update that overlapped: one copy within the device, hashed again where that costs nothing.</summary>
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

    public async Task AbandonAsync(string name)
    {
        if (update is null)
            return; // done before, and the answer was lost
        var under = Under(name);
        under.Received?.BrokenOff.Cancel();
        if (pause is { } standing)
        {
            standing.Orders.Add(engine =>
            {
                ForgetWeights(); // no request is taken
                engine.ResetPrefixCache();
                return false;
            });
            await standing.Ended;
        }
        (pause, update) = (null, null); // one that overlapped leaves the live weights as they were
    }

    /// <summary>What the engine computes with, hashed between two steps.</summary>
    public Task<CommitReply> HoldsAsync() =>
        Running.BetweenStepsAsync(engine => new CommitReply(engine.WeightVersion, WeightHash.Of(engine.Weights), 0));

    private Update Under(string name) =>
        update is { } under && under.Message.Update == name
            ? under
            : throw new InvalidOperationException($"Weight update {name} is not under way here");

    private static void End(string reason)
    {
        Console.Error.WriteLine($"This worker ends: {reason}");
        WorkerProcess.EndNow(1);
    }
}
