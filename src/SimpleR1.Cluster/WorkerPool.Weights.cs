using System.Diagnostics;
using SimpleR1.Models;
using SimpleR1.Sync;
using SimpleR1.Tensors;

namespace SimpleR1.Cluster;

public sealed partial class WorkerPool
{
    private readonly SemaphoreSlim syncing = new(1, 1); // one weight transfer at a time, a joiner's included
    private readonly TensorThread hashing = new("weight hash");
    private readonly IReadOnlyList<IWeightTransport> transports;
    private Published? published;
    private int newestSent = -1;

    /// <summary>The weights that every Ready worker has proven to hold.</summary>
    private sealed record Published(FlatWeights Source, int Version, ulong Hash);

    /// <summary>
    /// Sends the weights to every worker: all pause between two steps, receive straight into their live buffers, prove what they hold by its
    /// hash, and go on. A worker whose hash is wrong twice is dropped and replaced. The first push waits for all workers that this process starts, or for one of another head.
    /// </summary>
    /// <param name="source">Must not change before this returns, and must outlive the pool (replacements receive from it).</param>
    /// <param name="version">Greater than the last.</param>
    /// <exception cref="InvalidOperationException">No worker is left, the model is not the one the workers were set up with, or the weights changed on the way.</exception>
    /// <exception cref="TimeoutException">Workers did not join in time.</exception>
    public async Task<SyncReport> PushWeightsAsync(FlatWeights source, int version, CancellationToken cancellation = default)
    {
        if (version <= Version || version < 0) throw new ArgumentOutOfRangeException(nameof(version), version, $"Weight versions must grow; the last was {Version}");
        if (source.Layout.Fingerprint() != new WeightLayout(setup.Config).Fingerprint())
            throw new InvalidOperationException("These weights are of another model than the one the workers were set up with; start the cluster with the trainer's model config");
        bool first = published is null;
        await WaitAsync(() => first ? In(WorkerState.Joining).Count == 0 && In(WorkerState.Waiting).Count > 0 : In(WorkerState.Waiting, WorkerState.Ready, WorkerState.Suspect).Count > 0,
            WorkersTimeout, first ? options.Join is { } head ? $"a worker to join the head at {head.Join}" : options.OthersStartWorkers ? "a worker to join this head" : $"{options.Workers} workers to join" : "a worker to push weights to", cancellation);
        SyncReport report;
        await syncing.WaitAsync(cancellation);
        try
        {
            var hash = HashAsync(source);
            newestSent = version;
            report = await TransferAsync(In(WorkerState.Waiting, WorkerState.Ready, WorkerState.Suspect), source, version, hash, cancellation);
            published = new(source, version, report.Hash);
            router.Forget(); // the workers' cached prefixes were of the old weights
        }
        finally { syncing.Release(); }
        if (report.Workers.Count == 0) // their replacements receive the same weights
            await WaitAsync(() => In(WorkerState.Ready).Count > 0, WorkersTimeout + options.SyncTimeout,
                $"a replacement to hold weights version {version} ({string.Join("; ", report.Dropped)})", cancellation);
        return report;
    }

    /// <summary>Prepare, transfer, verify, commit. The workers must be able to receive, and <see cref="syncing"/> be held.</summary>
    /// <param name="late">The trainer may change the weights meanwhile; then the workers wait for the next push.</param>
    private async Task<SyncReport> TransferAsync(List<Worker> workers, FlatWeights source, int version, Task<ulong> hash, CancellationToken cancellation, bool late = false)
    {
        var clock = Stopwatch.StartNew();
        double Lap()
        {
            double seconds = clock.Elapsed.TotalSeconds;
            clock.Restart();
            return seconds;
        }
        List<string> dropped = [];
        async Task AllAsync(Func<Worker, Task> action) => await Task.WhenAll(workers.ToArray().Select(async worker =>
        {
            try { await action(worker); }
            catch (Exception e) when (!cancellation.IsCancellationRequested && e is not TakenOverException) { Drop(worker, e.Message); }
        }));
        void Drop(Worker worker, string reason)
        {
            worker.Fail(reason);
            lock (dropped)
            {
                dropped.Add($"{worker.Name}: {reason}");
                workers.Remove(worker);
            }
        }

        var plan = BroadcastPlan.For(source, version);
        var offers = transports.Where(t => t.CanOffer(source)).Select(t => t.Offer(source, plan)).ToArray();
        try
        {
            if (offers.Length == 0)
                throw new InvalidOperationException($"These weights can't be sent by {options.Transport}: allocate them with {nameof(SharedWeightMemory)}.{nameof(SharedWeightMemory.Allocate)}, or choose another transport");
            await AllAsync(worker => worker.PauseAsync(cancellation));
            double prepare = Lap();
            var receipts = new System.Collections.Concurrent.ConcurrentDictionary<Worker, ReceiptMessage>();
            Task Receive(Worker worker, int attempt) => Task.Run(async () => receipts[worker] = await worker.ReceiveAsync(offers.Select(o => o.Invitation), attempt, cancellation), cancellation);
            await AllAsync(worker => Receive(worker, 1));
            double transfer = Lap();
            ulong expected = await hash;
            if (receipts.Values.Any(r => Wrong(r, expected) is not null) && await HashAsync(source) != expected)
            {
                if (!late) throw new InvalidOperationException($"The trainer's weights changed while version {version} was being sent; nothing may write to them until the push has returned");
                await AllAsync(worker => worker.AbandonAsync(cancellation)); // the trainer has gone on with its step; the next push takes them along
                workers.Clear();
            }
            await AllAsync(async worker =>
            {
                if (Wrong(receipts[worker], expected) is not { } wrong) return;
                options.Log($"{worker.Name}: weights version {version} arrived wrong ({wrong}); sending them again");
                await Receive(worker, 2);
                if (Wrong(receipts[worker], expected) is { } again) throw new IOException($"weights version {version} arrived wrong twice: {again}");
            });
            double verify = Lap();
            await AllAsync(worker => worker.CommitAsync(version, cancellation));
            return new(version, expected, plan.ByteLength, [.. workers.Select(w => w.Number)], string.Join(", ", receipts.Values.Select(r => r.Transport).Distinct()),
                prepare, transfer, verify, Lap(), dropped);
        }
        catch (Exception e) when (e is not TakenOverException) // cancelled: the paused workers hold nobody knows what
        {
            foreach (var worker in workers.Where(w => w.State == WorkerState.Receiving)) worker.Fail("a weight update was broken off: " + e.Message);
            throw;
        }
        finally
        {
            foreach (var offer in offers) offer.Dispose();
        }

        static string? Wrong(ReceiptMessage receipt, ulong expected) =>
            receipt.Failure ?? (receipt.Hash == expected ? null : $"its hash is {receipt.Hash:x16}, the trainer's {expected:x16}");
    }

    private Task<ulong> HashAsync(FlatWeights weights) => hashing.RunAsync(() => WeightHash.Compute(weights.Pointer, weights.ByteLength));

    /// <summary>Brings a joiner to the current weights, where the trainer still has them; else it waits for the next push.</summary>
    private async Task CatchUpAsync(Worker worker, CancellationToken stop)
    {
        await syncing.WaitAsync(stop);
        try
        {
            if (published is not { } current || worker.State != WorkerState.Waiting) return; // the first push, or one just now, takes it along
            // The trainer may be in the middle of the next step, changing them: then the hash is not the published one.
            if (await HashAsync(current.Source) == current.Hash)
                await TransferAsync([worker], current.Source, current.Version, Task.FromResult(current.Hash), stop, late: true);
        }
        finally { syncing.Release(); }
    }
}
