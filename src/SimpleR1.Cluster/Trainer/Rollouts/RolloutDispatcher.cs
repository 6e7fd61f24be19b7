using System.Runtime.CompilerServices;
using System.Threading.Channels;
using SimpleR1.Cluster.Trainer.Weights;
using SimpleR1.Inference;

namespace SimpleR1.Cluster.Trainer.Rollouts;

/// <summary>How a batch of requests runs.</summary>
internal sealed record RolloutCall
{
    /// <summary>Yield every token as it is sampled, not completions alone.</summary>
    public bool Stream { get; init; }

    /// <summary>Time for the whole batch; null waits as long as workers make progress.</summary>
    public TimeSpan? Deadline { get; init; }

    /// <summary>When cancelled, unfinished samples come as aborted, with the tokens they have.</summary>
    public CancellationToken Enough { get; init; }
}

/// <summary>
/// Sends requests out to the workers that the router chooses, as far as those have room, and brings their samples in. Batches
/// run in parallel and share the workers.
/// </summary>
internal sealed class RolloutDispatcher(
    WorkerList workers,
    WeightPublisher publisher,
    Router router,
    ClusterOptions options
)
{
    private readonly Lock assigning = new(); // batches that run in parallel must see each other's load
    private int batches,
        queued;

    /// <summary>Requests whose prompt a worker had computed before, and how many of them went to that worker.</summary>
    public (long Known, long Hits) PrefixAffinity => router.Affinity;

    /// <summary>Samples of all batches that no worker has taken yet.</summary>
    public int Queued => Volatile.Read(ref queued);

    /// <summary>Runs a batch. Leaving the loop, or cancelling, aborts it.</summary>
    public async IAsyncEnumerable<TokenEvent> RunAsync(
        IReadOnlyList<GenerationRequest> requests,
        RolloutCall call,
        [EnumeratorCancellation] CancellationToken cancellation
    )
    {
        if (publisher.Current is null)
            throw new InvalidOperationException("Workers hold no weights yet: push weights before the first rollout");

        // The batch runs by itself and ends with this method.
        var events = Channel.CreateUnbounded<TokenEvent>();
        var ledger = new RolloutLedger(requests);
        string name = $"batch {Interlocked.Increment(ref batches)}";
        var batch = new RolloutBatch(name, ledger, call, events.Writer, new(workers, publisher, this, options));
        using var late = new CancellationTokenSource(call.Deadline ?? Timeout.InfiniteTimeSpan);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation, workers.Stopping, late.Token);
        using var wake = call.Enough.Register(workers.NotifyChange);
        var running = batch.RunAsync(stop.Token);
        try
        {
            while (await HasMoreAsync())
            while (events.Reader.TryRead(out var e))
                yield return e;
        }
        finally
        {
            stop.Cancel();
            await running;
        }

        async Task<bool> HasMoreAsync()
        {
            try
            {
                return await events.Reader.WaitToReadAsync(cancellation);
            }
            catch (OperationCanceledException)
                when (late.IsCancellationRequested && !cancellation.IsCancellationRequested)
            {
                throw new TimeoutException(
                    $"Waited {call.Deadline!.Value.TotalSeconds:0.#} s for {requests.Sum(r => r.Count)} samples; "
                        + $"missing: {ledger.DescribeMissing()}"
                );
            }
        }
    }

    /// <summary>Assigns requests that wait. Where none does, has idle workers repeat what others have not finished.</summary>
    /// <param name="mayHedge">Whether the batch has run long enough for the latter.</param>
    public List<AssignedShare> Assign(RolloutLedger ledger, bool mayHedge)
    {
        bool waiting = ledger.HasUnassigned;
        if (!waiting && !mayHedge)
            return [];

        lock (assigning)
        {
            var ready = workers.InState(WorkerState.Ready);
            var loads = ready.ConvertAll(w => new WorkerLoad(w.Number, w.Outstanding, w.OutstandingSamples)
            {
                Window = w.Window,
            });
            var shares = waiting ? ledger.Assign(router, loads) : Hedge(ledger, loads);

            var assigned = new List<AssignedShare>();
            foreach (var share in shares)
            {
                var worker = ready.Find(w => w.Number == share.Worker)!;
                if (!waiting)
                    options.Log($"{worker.Name} repeats {share.Requests.Count} requests that others have not finished");
                assigned.Add(new(worker, share, ledger));
            }
            return assigned;
        }
    }

    private List<RolloutShare> Hedge(RolloutLedger ledger, List<WorkerLoad> loads) =>
        [.. loads.Where(l => l.Samples == 0).Select(idle => ledger.Hedge(idle, idle.Window)).OfType<RolloutShare>()];

    /// <summary>Counts a batch's samples that wait for a worker with room.</summary>
    public void AddQueued(int samples) => Interlocked.Add(ref queued, samples);

    /// <summary>Wakes batches that have samples waiting, where this worker has room for several of them, or is done.</summary>
    public void NotifyRoom(RemoteWorker worker, bool isDone)
    {
        if (Queued > 0 && (isDone || worker.OutstandingSamples <= worker.Window * 3 / 4))
            workers.NotifyChange();
    }
}
