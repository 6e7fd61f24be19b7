using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync;
using static TorchSharp.torch;

namespace SimpleR1.Cluster.Trainer.Weights;

/// <summary>The weights that every Ready worker has proven to hold.</summary>
/// <param name="Hashes">By the workers' element types.</param>
internal sealed record PublishedWeights(
    FlatWeights Source,
    int Version,
    ulong Hash,
    IReadOnlyDictionary<ScalarType, ulong> Hashes
);

/// <summary>Sends weights to all workers, and to those that join later, one update at a time.</summary>
internal sealed class WeightPublisher(
    WorkerList workers,
    WorkerSetup setup,
    ClusterOptions options,
    IReadOnlyList<IWeightTransport> transports
) : IDisposable
{
    private readonly SemaphoreSlim syncing = new(1, 1); // one transfer at a time, a joiner's included
    private readonly TensorThread hashing = new("weight hash");
    private readonly HostCopy hostCopy = new();
    private CudaDevice? hashingStream; // for weights on a GPU

    /// <summary>The last weights that were pushed; null before the first.</summary>
    public PublishedWeights? Current { get; private set; }

    /// <summary>Version of the last weights that workers may have received, in an update that still runs or failed too.</summary>
    public int NewestSent { get; private set; } = -1;

    /// <summary>Called when workers hold new weights.</summary>
    public Action Published { get; init; } = () => { };

    /// <inheritdoc cref="WorkerPool.PushWeightsAsync"/>
    public async Task<SyncReport> PushAsync(FlatWeights source, int version, CancellationToken cancellation)
    {
        CheckPush(source, version);
        source.Device?.Synchronize(); // other streams read the weights, so writes to them must have ended
        await WaitForWorkersAsync(cancellation);

        // The update.
        SyncReport report;
        await syncing.WaitAsync(cancellation);
        try
        {
            NewestSent = version;
            options.Colocated?.Lend();
            var receivers = workers.InState(WorkerState.Waiting, WorkerState.Ready, WorkerState.Suspect);
            var request = new UpdateRequest(receivers, source, version, hostCopy);
            var update = new WeightUpdate(request, transports, HashAsync, options, cancellation);
            report = await update.RunAsync();
            Current = new(source, version, report.Hash, update.Hashes);
            workers.LogsWaits = true;
            Published();
        }
        finally
        {
            syncing.Release();
        }

        // Where all workers were lost, their replacements receive the same weights.
        if (report.Workers.Count == 0)
            await workers.WaitAsync(
                () => workers.HasAny(WorkerState.Ready),
                workers.ArrivalTimeout + options.SyncTimeout,
                $"a replacement to hold weights version {version} ({string.Join("; ", report.Dropped)})",
                cancellation
            );

        return report;
    }

    private void CheckPush(FlatWeights source, int version)
    {
        int last = Current?.Version ?? -1;
        if (version <= last || version < 0)
            throw new ArgumentOutOfRangeException(
                nameof(version),
                version,
                $"Weight versions must grow; the last was {last}"
            );
        if (source.Layout.Fingerprint() != new WeightLayout(setup.Config).Fingerprint())
            throw new InvalidOperationException(
                "These weights are of another model than the one the workers were set up with; "
                    + "start the cluster with the trainer's model config"
            );
        if (options.Colocated is not { } memory)
            return;

        if (source != memory.Weights)
            throw new ArgumentException("Workers on the trainer's GPU share its own weights; no others can be pushed");
        if (memory.IsLent)
            throw new InvalidOperationException(
                $"Weights version {last} are the workers' own until {nameof(IRolloutWorkers.ReclaimMemoryAsync)}, "
                    + "which must come before the weights change"
            );
    }

    /// <summary>Takes back what is lent to workers on the trainer's GPU.</summary>
    public async Task ReclaimAsync(CancellationToken cancellation)
    {
        if (options.Colocated is not { } memory)
            return;

        await syncing.WaitAsync(cancellation); // a joiner's update may be under way
        try
        {
            var holders = workers.All.Where(w => memory.HasLease(w.Instance));
            await Task.WhenAll(holders.Select(w => ReclaimAsync(w, cancellation)));
            await memory.TakeBackAsync(options.ResponseTimeout, cancellation); // from processes that are being killed
        }
        finally
        {
            syncing.Release();
        }
    }

    private async Task ReclaimAsync(RemoteWorker worker, CancellationToken cancellation)
    {
        var timeout = options.OnUpdate == OnUpdate.Drain ? options.SyncTimeout : options.ResponseTimeout;
        try
        {
            await worker.ReclaimAsync(NewestSent, timeout, cancellation);
        }
        catch (Exception e) when (!cancellation.IsCancellationRequested && e is not TakenOverException)
        {
            worker.Fail(e.Message); // its lease ends with its process
        }
    }

    /// <summary>
    /// Waits for workers to send to. The first push waits for all workers that this process starts, or for one that others start.
    /// </summary>
    private Task WaitForWorkersAsync(CancellationToken cancellation)
    {
        bool isFirst = Current is null;
        return workers.WaitAsync(
            isFirst ? AllHaveJoined : AnyCanReceive,
            workers.ArrivalTimeout,
            isFirst ? FirstWorkers() : "a worker to push weights to",
            cancellation
        );

        bool AllHaveJoined() => !workers.HasAny(WorkerState.Joining) && workers.HasAny(WorkerState.Waiting);

        bool AnyCanReceive() => workers.HasAny(WorkerState.Waiting, WorkerState.Ready, WorkerState.Suspect);
    }

    private string FirstWorkers()
    {
        if (options.Join is { } head)
            return $"a worker to join the head at {head.Join}";

        return options.OthersStartWorkers ? "a worker to join this head" : $"{options.Workers} workers to join";
    }

    /// <summary>
    /// Asks every Ready worker for version and hash of the weights that its engine computes with now. Leaves out workers that are
    /// lost before they answer.
    /// </summary>
    public async Task<IReadOnlyList<HeldWeights>> HeldWeightsAsync(CancellationToken cancellation)
    {
        var answers = await Task.WhenAll(workers.InState(WorkerState.Ready).Select(w => AskAsync(w, cancellation)));
        return [.. answers.OfType<HeldWeights>()];
    }

    private static async Task<HeldWeights?> AskAsync(RemoteWorker worker, CancellationToken cancellation)
    {
        try
        {
            var held = await worker.HeldWeightsAsync(cancellation);
            return new(worker.Name, worker.ElementType, held.Version, held.Hash);
        }
        catch (IOException) when (worker.State == WorkerState.Dead)
        {
            return null;
        }
    }

    private Task<ulong> HashAsync(FlatWeights weights, ScalarType type) =>
        hashing.RunAsync(() =>
        {
            if (weights.Device is { } gpu)
                hashingStream ??= gpu.WithOwnStream();
            return WeightHash.Of(weights, type, weights.Device is null ? null : hashingStream);
        });

    /// <summary>
    /// Brings a joiner to the current weights, where the trainer still has them; else the joiner waits for the next push.
    /// </summary>
    public async Task CatchUpAsync(RemoteWorker worker, CancellationToken stop)
    {
        await syncing.WaitAsync(stop);
        try
        {
            if (Current is not { } current || worker.State != WorkerState.Waiting)
                return; // the first push, or one just now, takes the joiner along
            if (worker.BorrowsMemory && options.Colocated is { IsLent: false })
                return; // the trainer needs its memory, and the next push takes the joiner along
            if (!await IsUnchangedAsync(current, worker.ElementType))
                return;

            var request = new UpdateRequest([worker], current.Source, current.Version, hostCopy) { IsLate = true };
            await new WeightUpdate(request, transports, HashAsync, options, stop).RunAsync();
        }
        finally
        {
            syncing.Release();
        }
    }

    /// <summary>Whether the published weights are still there. The trainer may be in the middle of a step that changes them.</summary>
    /// <param name="type">The joiner's, which no worker may have had before.</param>
    private async Task<bool> IsUnchangedAsync(PublishedWeights published, ScalarType type)
    {
        // One type's hash decides: if it still matches, the weights are unchanged.
        var known = published.Hashes.ContainsKey(type) ? type : published.Source.Flat.dtype;
        return published.Hashes.TryGetValue(known, out ulong hash) && await HashAsync(published.Source, known) == hash;
    }

    /// <summary>Waits for the end of a transfer that reads the weights, and begins none after it.</summary>
    public Task StopAsync() => syncing.WaitAsync();

    public void Dispose()
    {
        foreach (var transport in transports)
            transport.Dispose();
        hashing.Dispose();
        hostCopy.Dispose();
    }
}
