using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync;
using static TorchSharp.torch;

namespace SimpleR1.Cluster.Trainer;

public sealed partial class WorkerPool
{
    private readonly SemaphoreSlim syncing = new(1, 1); // one weight transfer at a time, a joiner's included
    private readonly TensorThread hashing = new("weight hash");
    private CudaDevice? hashingStream; // of weights on a GPU
    private readonly IReadOnlyList<IWeightTransport> transports;
    private Published? published;
    private int newestSent = -1;

    /// <summary>The weights that every Ready worker has proven to hold.</summary>
    /// <param name="Hashes">By the workers' element types.</param>
    private sealed record Published(
        FlatWeights Source,
        int Version,
        ulong Hash,
        IReadOnlyDictionary<ScalarType, ulong> Hashes
    );

    /// <summary>
    /// Sends the weights to every worker: all pause between two steps, receive straight into their live buffers, prove what they hold by its
    /// hash, and go on. A worker whose hash is wrong twice is dropped and replaced. The first push waits for all workers that this process starts, or for one of another head.
    /// </summary>
    /// <param name="source">On the CPU, or on a GPU of the calling thread's, from which NCCL sends. Must not change before this returns, and must outlive the pool (replacements receive from it).</param>
    /// <param name="version">Greater than the last.</param>
    /// <exception cref="InvalidOperationException">No worker is left, the model is not the one the workers were set up with, or the weights changed on the way.</exception>
    /// <exception cref="TimeoutException">Workers did not join in time.</exception>
    public async Task<SyncReport> PushWeightsAsync(
        FlatWeights source,
        int version,
        CancellationToken cancellation = default
    )
    {
        if (version <= Version || version < 0)
            throw new ArgumentOutOfRangeException(
                nameof(version),
                version,
                $"Weight versions must grow; the last was {Version}"
            );
        if (source.Layout.Fingerprint() != new WeightLayout(setup.Config).Fingerprint())
            throw new InvalidOperationException(
                "These weights are of another model than the one the workers were set up with; start the cluster with the trainer's model config"
            );
        source.Device?.Synchronize(); // what wrote them may still be under way, and they are read on other streams
        bool first = published is null;
        await WaitAsync(
            () =>
                first
                    ? In(WorkerState.Joining).Count == 0 && In(WorkerState.Waiting).Count > 0
                    : In(WorkerState.Waiting, WorkerState.Ready, WorkerState.Suspect).Count > 0,
            WorkersTimeout,
            first
                ? options.Join is { } head
                    ? $"a worker to join the head at {head.Join}"
                    : options.OthersStartWorkers
                        ? "a worker to join this head"
                        : $"{options.Workers} workers to join"
                : "a worker to push weights to",
            cancellation
        );
        SyncReport report;
        await syncing.WaitAsync(cancellation);
        try
        {
            newestSent = version;
            var receivers = In(WorkerState.Waiting, WorkerState.Ready, WorkerState.Suspect);
            var request = new UpdateRequest(receivers, source, version, IsLate: false);
            var update = new WeightUpdate(request, transports, HashAsync, options, cancellation);
            report = await update.RunAsync();
            published = new(source, version, report.Hash, update.Hashes);
            router.Forget(); // the workers' cached prefixes were of the old weights
        }
        finally
        {
            syncing.Release();
        }
        if (report.Workers.Count == 0) // their replacements receive the same weights
            await WaitAsync(
                () => In(WorkerState.Ready).Count > 0,
                WorkersTimeout + options.SyncTimeout,
                $"a replacement to hold weights version {version} ({string.Join("; ", report.Dropped)})",
                cancellation
            );
        return report;
    }

    /// <summary>Asks every Ready worker for version and hash of what its engine computes with now; those that are lost meanwhile are left out.</summary>
    internal async Task<IReadOnlyList<HeldWeights>> HeldWeightsAsync(CancellationToken cancellation)
    {
        var answers = await Task.WhenAll(
            In(WorkerState.Ready)
                .Select(async worker =>
                {
                    try
                    {
                        var held = await worker.HeldWeightsAsync(cancellation);
                        return new HeldWeights(worker.Name, worker.ElementType, held.Version, held.Hash);
                    }
                    catch (IOException) when (worker.State == WorkerState.Dead)
                    {
                        return null;
                    }
                })
        );
        return [.. answers.OfType<HeldWeights>()];
    }

    private Task<ulong> HashAsync(FlatWeights weights, ScalarType held) =>
        hashing.RunAsync(() =>
            WeightHash.Of(weights, held, weights.Device is { } gpu ? hashingStream ??= gpu.WithOwnStream() : null)
        );

    /// <summary>Brings a joiner to the current weights, where the trainer still has them; else it waits for the next push.</summary>
    private async Task CatchUpAsync(RemoteWorker worker, CancellationToken stop)
    {
        await syncing.WaitAsync(stop);
        try
        {
            if (published is not { } current || worker.State != WorkerState.Waiting)
                return; // the first push, or one just now, takes it along
            // The trainer may be in the middle of the next step, changing them: then the hash is not the published one. That of its own type tells for all.
            var known = current.Hashes.ContainsKey(worker.ElementType) ? worker.ElementType : current.Source.Flat.dtype;
            if (current.Hashes.TryGetValue(known, out ulong hash) && await HashAsync(current.Source, known) == hash)
            {
                var request = new UpdateRequest([worker], current.Source, current.Version, IsLate: true);
                await new WeightUpdate(request, transports, HashAsync, options, stop).RunAsync();
            }
        }
        finally
        {
            syncing.Release();
        }
    }
}
