using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Threading.Channels;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Sync;
using SimpleR1.Tensors;

namespace SimpleR1.Cluster;

/// <summary>Workers failed again and again, at starting or at one request; says why.</summary>
public sealed class WorkersLostException(string message) : InvalidOperationException(message);

/// <summary>
/// The workers as the trainer uses them: prompts in, completions out as they finish, weights to all. A worker that dies or hangs is
/// replaced while the others go on; that costs time, never a sample.
/// </summary>
public sealed class WorkerPool : IRolloutWorkers, IAsyncDisposable
{
    private readonly ClusterOptions options;
    private readonly WorkerSetup setup;
    private readonly HeadSilo head;
    private readonly Lock gate = new();
    private readonly Slot[] slots;
    private readonly Task[] keepers;
    private readonly SemaphoreSlim syncing = new(1, 1); // one weight transfer at a time, a replacement's included
    private readonly CancellationTokenSource stopping = new();
    private readonly TensorThread hashing = new("weight hash");
    private readonly IReadOnlyList<IWeightTransport> transports;
    private TaskCompletionSource changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Published? published;
    private int batches, newestSent = -1;

    /// <summary>A worker's place: the process in it changes, the number stays.</summary>
    private sealed class Slot
    {
        public required Worker Worker;
        public string? GivenUp; // with the reason
    }

    /// <summary>The weights that every Ready worker has proven to hold.</summary>
    private sealed record Published(FlatWeights Source, int Version, ulong Hash);

    internal WorkerPool(HeadSilo head, ClusterOptions options, WorkerSetup setup)
    {
        (this.head, this.options, this.setup) = (head, options, setup);
        transports = options.Transport switch
        {
            WeightTransportChoice.SharedMemory => [new SharedMemoryTransport()],
            WeightTransportChoice.Tcp => [new TcpTransport()],
            _ => [new SharedMemoryTransport(), new TcpTransport()],
        };
        slots = [.. Enumerable.Range(1, options.Workers).Select(number => new Slot { Worker = new(number, 0, 0, options, Changed) })];
        keepers = [.. slots.Select(KeepAsync)];
    }

    /// <summary>All workers, by number.</summary>
    public IReadOnlyList<WorkerStatus> Status() => [.. Workers.Select(w => w.Status)];

    /// <summary>Version of the weights that were pushed last; -1 before the first.</summary>
    public int Version => published?.Version ?? -1;

    private IEnumerable<Worker> Workers { get { lock (gate) return [.. slots.Select(s => s.Worker)]; } }
    private List<Worker> In(params ReadOnlySpan<WorkerState> states)
    {
        var found = new List<Worker>();
        foreach (var worker in Workers)
            if (states.Contains(worker.State)) found.Add(worker);
        return found;
    }

    // ---- rollouts

    /// <summary>
    /// Completes every request on the workers and yields each sample once, as it finishes. Requests go out at once, in order, each to the
    /// worker with the fewest outstanding tokens; those of a lost worker go out again. Breaking off, or cancelling, aborts what still runs.
    /// </summary>
    /// <exception cref="ArgumentException">A request can't be served (too long for the context, for one).</exception>
    /// <exception cref="InvalidOperationException">No weights were pushed yet, or no worker can be brought up again; says why.</exception>
    /// <exception cref="TimeoutException">No worker became ready in time.</exception>
    public async IAsyncEnumerable<Completion> GenerateAsync(IReadOnlyList<GenerationRequest> requests, [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        if (published is null) throw new InvalidOperationException("Workers hold no weights yet: push weights before the first rollout");
        var finished = Channel.CreateUnbounded<Completion>();
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation, stopping.Token);
        var running = RunAsync(new(requests), finished.Writer, stop.Token);
        try
        {
            await foreach (var completion in finished.Reader.ReadAllAsync(cancellation)) yield return completion;
        }
        finally
        {
            stop.Cancel();
            await running;
        }
    }

    private async Task RunAsync(RolloutLedger ledger, ChannelWriter<Completion> finished, CancellationToken stop)
    {
        string batch = $"batch {Interlocked.Increment(ref batches)}";
        var running = new Dictionary<Task, (Worker Worker, RolloutShare Share)>();
        Exception? failure = null;
        using var abort = CancellationTokenSource.CreateLinkedTokenSource(stop);
        try
        {
            while (!ledger.Complete)
            {
                var ready = ledger.HasUnassigned ? In(WorkerState.Ready) : [];
                if (ready.Count > 0)
                    foreach (var share in ledger.Assign([.. ready.Select(w => (w.Number, w.Outstanding))]))
                    {
                        var worker = ready.Find(w => w.Number == share.Worker)!;
                        running.Add(RolloutAsync(worker, $"{batch}.{share.Id}", share, ledger, finished, abort.Token), (worker, share));
                    }
                else if (running.Count == 0)
                {
                    await WaitAsync(() => In(WorkerState.Ready).Count > 0, options.StartTimeout, "a worker to be ready for the remaining samples", stop);
                    continue;
                }
                // Suspects and slow workers may still hold their share while another becomes ready for what was released.
                var pulse = Pulse();
                var done = await Task.WhenAny(ledger.HasUnassigned && In(WorkerState.Ready).Count == 0 ? [.. running.Keys, pulse] : running.Keys);
                if (!running.Remove(done, out var ended)) continue;
                await done; // a refused request ends the batch; a lost worker doesn't throw
                int released = ledger.Release(ended.Share, ended.Worker.Death.IsCompleted ? await ended.Worker.Death : "");
                if (released > 0) options.Log($"{ended.Worker.Name}: {released} unfinished requests go to other workers");
            }
        }
        catch (Exception e) { failure = e; } // is the reader's
        abort.Cancel();
        foreach (var rest in running.Keys)
            try { await rest; }
            catch (Exception) when (failure is not null) { } // the first failure is the one that is told
        finished.Complete(failure);
    }

    /// <summary>One worker's share, until it is done or the worker is lost.</summary>
    private async Task RolloutAsync(Worker worker, string batch, RolloutShare share, RolloutLedger ledger, ChannelWriter<Completion> finished, CancellationToken stop)
    {
        long counted = ledger.Outstanding(share);
        worker.AddOutstanding(counted);
        try
        {
            await worker.RolloutAsync(batch, share.Requests, () => ledger.Owed(share), completion =>
            {
                if (completion.WeightVersions.AsSpan().ContainsAnyExceptInRange(0, newestSent))
                    throw new IOException($"it sampled from weights that were never pushed (versions {string.Join(", ", completion.WeightVersions.Distinct())}, newest {newestSent})");
                if (!ledger.Accept(completion)) return;
                long left = ledger.Outstanding(share);
                worker.AddOutstanding(left - counted, completion.Tokens.Length);
                counted = left;
                finished.TryWrite(completion);
            }, stop);
        }
        catch (Exception) when (stop.IsCancellationRequested)
        {
            await worker.AbortAsync(batch);
            throw;
        }
        catch (Exception e) when (e is not ArgumentException) { worker.Fail(e.Message); }
        finally { worker.AddOutstanding(-counted); }
    }

    // ---- weights

    /// <summary>
    /// Sends the weights to every worker: all pause between two steps, receive straight into their live buffers, prove what they hold by its
    /// hash, and go on. A worker whose hash is wrong twice is dropped and replaced. The first push waits for all workers to have joined.
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
            options.StartTimeout + TimeSpan.FromSeconds(5), first ? $"{options.Workers} workers to join" : "a worker to push weights to", cancellation);
        SyncReport report;
        await syncing.WaitAsync(cancellation);
        try
        {
            var hash = HashAsync(source);
            newestSent = version;
            report = await TransferAsync(In(WorkerState.Waiting, WorkerState.Ready, WorkerState.Suspect), source, version, hash, cancellation);
            published = new(source, version, report.Hash);
        }
        finally { syncing.Release(); }
        if (report.Workers.Count == 0) // their replacements receive the same weights
            await WaitAsync(() => In(WorkerState.Ready).Count > 0, options.StartTimeout + options.SyncTimeout,
                $"a replacement to hold weights version {version} ({string.Join("; ", report.Dropped)})", cancellation);
        return report;
    }

    /// <summary>Prepare, transfer, verify, commit. The workers must be able to receive, and <see cref="syncing"/> be held.</summary>
    private async Task<SyncReport> TransferAsync(List<Worker> workers, FlatWeights source, int version, Task<ulong> hash, CancellationToken cancellation)
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
            catch (Exception e) when (!cancellation.IsCancellationRequested) { Drop(worker, e.Message); }
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
            Task Receive(Worker worker) => Task.Run(async () => receipts[worker] = await worker.ReceiveAsync(offers.Select(o => o.Invitation), cancellation), cancellation);
            await AllAsync(Receive);
            double transfer = Lap();
            ulong expected = await hash;
            if (receipts.Values.Any(r => r.Failure is null && r.Hash != expected) && await HashAsync(source) != expected)
                throw new InvalidOperationException($"The trainer's weights changed while version {version} was being sent; nothing may write to them until the push has returned");
            await AllAsync(async worker =>
            {
                if (Wrong(receipts[worker], expected) is not { } wrong) return;
                options.Log($"{worker.Name}: weights version {version} arrived wrong ({wrong}); sending them again");
                await Receive(worker);
                if (Wrong(receipts[worker], expected) is { } again) throw new IOException($"weights version {version} arrived wrong twice: {again}");
            });
            double verify = Lap();
            await AllAsync(worker => worker.CommitAsync(version, cancellation));
            return new(version, expected, plan.ByteLength, [.. workers.Select(w => w.Number)], string.Join(", ", receipts.Values.Select(r => r.Transport).Distinct()),
                prepare, transfer, verify, Lap(), dropped);
        }
        catch (Exception e) // cancelled: the paused workers hold nobody knows what
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

    /// <summary>Brings a late joiner to the current weights, where the trainer still has them; else it waits for the next push.</summary>
    private async Task CatchUpAsync(Worker worker, CancellationToken stop)
    {
        await syncing.WaitAsync(stop);
        try
        {
            if (published is not { } current || worker.State != WorkerState.Waiting) return; // the first push, or one just now, takes it along
            // The trainer may be in the middle of the next step, changing them: then the hash is not the published one.
            if (await HashAsync(current.Source) == current.Hash)
                await TransferAsync([worker], current.Source, current.Version, Task.FromResult(current.Hash), stop);
        }
        finally { syncing.Release(); }
    }

    // ---- keeping workers alive

    private async Task KeepAsync(Slot slot)
    {
        await Task.Yield();
        for (int replacements = 0, failedStarts = 0; ;)
        {
            var worker = slot.Worker;
            try
            {
                await worker.StartAsync(head, setup, stopping.Token);
                if (worker.State != WorkerState.Dead) await CatchUpAsync(worker, stopping.Token);
            }
            catch (OperationCanceledException) when (stopping.IsCancellationRequested) { }
            catch (Exception e) { worker.Fail(e.Message); }
            bool started = worker.State is not (WorkerState.Dead or WorkerState.Joining);
            await Task.WhenAny(worker.Death, Task.Delay(Timeout.Infinite, stopping.Token));
            await worker.DisposeAsync();
            if (stopping.IsCancellationRequested) return;

            string reason = await worker.Death;
            failedStarts = started ? 0 : failedStarts + 1;
            if (failedStarts == options.StartAttempts)
            {
                options.Log($"{worker.Name} failed to start {failedStarts} times in a row and is given up: {reason}");
                lock (gate) slot.GivenUp = $"{worker.Name}: {reason}";
                Changed();
                return;
            }
            options.Log($"{worker.Name} was lost and is replaced: {reason}");
            lock (gate) slot.Worker = new(worker.Number, ++replacements, worker.Status.PeakMemoryBytes, options, Changed);
            Changed();
        }
    }

    private void Changed()
    {
        TaskCompletionSource pulse;
        lock (gate) (pulse, changed) = (changed, new(TaskCreationOptions.RunContinuationsAsynchronously));
        pulse.SetResult();
    }

    /// <summary>Completes at the next change of any worker.</summary>
    private Task Pulse() { lock (gate) return changed.Task; }

    private async Task WaitAsync(Func<bool> condition, TimeSpan timeout, string awaited, CancellationToken cancellation)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellation, stopping.Token);
        deadline.CancelAfter(timeout);
        for (bool told = false; ;)
        {
            var pulse = Pulse();
            if (condition()) return;
            string[] givenUp;
            lock (gate) givenUp = [.. slots.Where(s => s.GivenUp is not null).Select(s => s.GivenUp!)];
            if (givenUp.Length == slots.Length)
                throw new WorkersLostException($"No worker is left to wait for ({awaited}):\n{string.Join('\n', givenUp)}");
            if (!told && Workers.All(w => w.State is WorkerState.Dead or WorkerState.Joining) && published is not null)
            {
                options.Log($"Waiting for {awaited} (at most {timeout.TotalSeconds:0} s)");
                told = true;
            }
            try { await pulse.WaitAsync(deadline.Token); }
            catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
            {
                if (stopping.IsCancellationRequested) throw new ObjectDisposedException(nameof(WorkerPool), $"The cluster was shut down while waiting for {awaited}");
                throw new TimeoutException($"Waited {timeout.TotalSeconds:0} s for {awaited}; workers: {string.Join(", ", Workers.Select(w => $"{w.Name} {w.State}"))}");
            }
        }
    }

    /// <summary>Ends the worker processes and waits until they are gone.</summary>
    public async ValueTask DisposeAsync()
    {
        if (stopping.IsCancellationRequested) return;
        stopping.Cancel();
        await Task.WhenAll(keepers);
        foreach (var transport in transports) transport.Dispose();
        hashing.Dispose();
    }
}
