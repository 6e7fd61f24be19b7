using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Threading.Channels;
using SimpleR1.Inference;

namespace SimpleR1.Cluster.Trainer;

public sealed partial class WorkerPool
{
    private readonly int window;
    private readonly Router router;
    private readonly Lock assigning = new(); // batches that run beside each other must see each other's load
    private int batches,
        queued;

    /// <summary>Requests whose prompt a worker had computed before, and how many of them went to that worker.</summary>
    public (long Known, long Hits) PrefixAffinity => router.Affinity;

    /// <inheritdoc/>
    public IAsyncEnumerable<Completion> GenerateAsync(
        IReadOnlyList<GenerationRequest> requests,
        CancellationToken cancellation = default
    ) => GenerateAsync(requests, null, default, cancellation);

    /// <summary>
    /// Completes every request on the workers and yields each sample once, as it finishes. Requests go out in order, to the workers that the
    /// router chooses, as far as those have room; what a lost worker had not finished goes out again. Leaving the loop, or cancelling, aborts what still runs.
    /// </summary>
    /// <param name="deadline">For all of it; null waits as long as workers make progress.</param>
    /// <param name="enough">When cancelled, what has not finished comes as aborted, with the tokens it has; as a <see cref="PartialSample"/> it can go on later. Texts of these may be empty.</param>
    /// <exception cref="ArgumentException">A request can't be served (too long for the context, for one).</exception>
    /// <exception cref="InvalidOperationException">No weights were pushed yet, or no worker can be brought up again; says why.</exception>
    /// <exception cref="TimeoutException">No worker became ready in time, or the deadline passed; says what was missing.</exception>
    public async IAsyncEnumerable<Completion> GenerateAsync(
        IReadOnlyList<GenerationRequest> requests,
        TimeSpan? deadline,
        CancellationToken enough,
        [EnumeratorCancellation] CancellationToken cancellation = default
    )
    {
        await foreach (var e in EventsAsync(requests, stream: false, deadline, enough, cancellation))
            if (e.Completion is { } completion)
                yield return completion;
    }

    /// <summary>A request's tokens as they are sampled, its samples mixed. When a worker is lost, another one goes on behind the last token that came. Leaving the loop, or cancelling, aborts it.</summary>
    /// <exception cref="ArgumentException">The request can't be served.</exception>
    public IAsyncEnumerable<TokenEvent> StreamAsync(
        GenerationRequest request,
        CancellationToken cancellation = default
    ) => EventsAsync([request], stream: true, null, default, cancellation);

    private async IAsyncEnumerable<TokenEvent> EventsAsync(
        IReadOnlyList<GenerationRequest> requests,
        bool stream,
        TimeSpan? deadline,
        CancellationToken enough,
        [EnumeratorCancellation] CancellationToken cancellation
    )
    {
        if (published is null)
            throw new InvalidOperationException("Workers hold no weights yet: push weights before the first rollout");
        var events = Channel.CreateUnbounded<TokenEvent>();
        var ledger = new RolloutLedger(requests);
        using var late = new CancellationTokenSource(deadline ?? Timeout.InfiniteTimeSpan);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation, stopping.Token, late.Token);
        using var wake = enough.Register(Changed);
        var running = RunAsync(ledger, stream, events.Writer, enough, stop.Token);
        try
        {
            while (await MoreAsync())
            while (events.Reader.TryRead(out var e))
                yield return e;
        }
        finally
        {
            stop.Cancel();
            await running;
        }

        async Task<bool> MoreAsync()
        {
            try
            {
                return await events.Reader.WaitToReadAsync(cancellation);
            }
            catch (OperationCanceledException)
                when (late.IsCancellationRequested && !cancellation.IsCancellationRequested)
            {
                throw new TimeoutException(
                    $"Waited {deadline!.Value.TotalSeconds:0.#} s for {requests.Sum(r => r.Count)} samples; missing: {ledger.Missing()}"
                );
            }
        }
    }

    private async Task RunAsync(
        RolloutLedger ledger,
        bool stream,
        ChannelWriter<TokenEvent> events,
        CancellationToken enough,
        CancellationToken stop
    )
    {
        string batch = $"batch {Interlocked.Increment(ref batches)}";
        var running = new Dictionary<Task, (RemoteWorker Worker, RolloutShare Share)>();
        Exception? failure = null;
        long startedAt = Stopwatch.GetTimestamp();
        int waiting = 0; // samples of this batch among those queued
        bool brokenOff = false;
        using var abort = CancellationTokenSource.CreateLinkedTokenSource(stop);
        try
        {
            while (!ledger.Complete)
            {
                var pulse = Pulse();
                if (enough.IsCancellationRequested)
                    BreakOff();
                else
                    foreach (var (worker, share) in Assign(ledger, stream, startedAt))
                        running.Add(
                            RolloutAsync(worker, $"{batch}.{share.Id}", share, stream, ledger, events, abort.Token),
                            (worker, share)
                        );
                Queued(ledger.Unassigned);
                if (ledger.Complete)
                    break;
                if (running.Count == 0)
                {
                    if (In(WorkerState.Ready).Count > 0)
                        await pulse.WaitAsync(stop); // other batches have filled their queues
                    else
                        await WaitAsync(
                            () => In(WorkerState.Ready).Count > 0 || enough.IsCancellationRequested,
                            WorkersTimeout,
                            "a worker to be ready for the remaining samples",
                            stop
                        );
                    continue;
                }
                // What waits goes to whoever has room first, a worker that has just joined too.
                bool wakes =
                    ledger.HasUnassigned || options.HedgeAfter is not null || enough.CanBeCanceled && !brokenOff;
                var done = await Task.WhenAny(wakes ? [.. running.Keys, pulse, .. HedgeTime(startedAt)] : running.Keys);
                if (!running.Remove(done, out var ended))
                    continue;
                await done; // a refused request ends the batch; a lost worker doesn't throw
                // A share that got on was not what its worker died of; and one that did not get smaller can't go on forever.
                string? blame =
                    ended.Worker.Drained || ended.Share.Accepted > 0 ? null
                    : ended.Worker.Death.IsCompleted ? await ended.Worker.Death
                    : "";
                int released = ledger.Release(ended.Share, blame, killed: !ended.Worker.EngineFailed);
                if (released > 0)
                    options.Log(
                        $"{ended.Worker.Name}: {released} unfinished requests {(brokenOff ? "are broken off with what is known of them" : "go to other workers")}"
                    );
            }
        }
        catch (Exception e)
        {
            failure = e;
        } // is the reader's
        Queued(0);
        abort.Cancel();
        foreach (var rest in running.Keys)
            try
            {
                await rest;
            }
            catch (Exception) { } // nothing of it is wanted any more, and the first failure is the one that is told
        events.Complete(failure);

        void Queued(int now)
        {
            Interlocked.Add(ref queued, now - waiting);
            waiting = now;
        }

        void BreakOff()
        {
            foreach (var completion in ledger.BreakOff())
                events.TryWrite(TokenEvent.Of(completion)); // those of workers that are lost meanwhile too
            if (brokenOff)
                return;
            brokenOff = true;
            foreach (var (worker, share) in running.Values)
                _ = worker.BreakOffAsync($"{batch}.{share.Id}");
        }
    }

    private List<(RemoteWorker Worker, RolloutShare Share)> Assign(RolloutLedger ledger, bool stream, long startedAt)
    {
        var given = new List<(RemoteWorker, RolloutShare)>();
        bool waiting = ledger.HasUnassigned;
        bool hedging =
            !waiting && !stream && options.HedgeAfter is { } after && Stopwatch.GetElapsedTime(startedAt) >= after;
        if (!waiting && !hedging)
            return given;
        lock (assigning)
        {
            var ready = In(WorkerState.Ready);
            var loads = ready.ConvertAll(w => new WorkerLoad(w.Number, w.Outstanding, w.OutstandingSamples));
            if (waiting)
                foreach (var share in ledger.Assign(router, loads))
                    Give(share);
            else
                foreach (var idle in loads.Where(l => l.Samples == 0))
                    if (ledger.Hedge(idle, window) is { } share)
                    {
                        options.Log(
                            $"{ready.Find(w => w.Number == idle.Worker)!.Name} repeats {share.Requests.Count} requests that others have not finished"
                        );
                        Give(share);
                    }

            void Give(RolloutShare share)
            {
                var worker = ready.Find(w => w.Number == share.Worker)!;
                worker.AddOutstanding(ledger.Outstanding(share), ledger.Owed(share));
                given.Add((worker, share));
            }
        }
        return given;
    }

    private IEnumerable<Task> HedgeTime(long startedAt) =>
        options.HedgeAfter is { } after
        && after - Stopwatch.GetElapsedTime(startedAt) is var left
        && left > TimeSpan.Zero
            ? [Task.Delay(left + TimeSpan.FromMilliseconds(1), stopping.Token)]
            : [];

    /// <summary>One worker's share, until it is done or the worker is lost. Its load is counted already.</summary>
    private async Task RolloutAsync(
        RemoteWorker worker,
        string batch,
        RolloutShare share,
        bool stream,
        RolloutLedger ledger,
        ChannelWriter<TokenEvent> events,
        CancellationToken stop
    )
    {
        long counted = ledger.Outstanding(share);
        int owed = ledger.Owed(share);
        try
        {
            var weights = published!;
            await worker.RolloutAsync(
                batch,
                (weights.Version, weights.Hash),
                share.Requests,
                stream,
                () => ledger.Owed(share),
                e =>
                {
                    ReadOnlySpan<int> versions = e.Completion is { } c ? c.WeightVersions : [e.WeightVersion];
                    if (versions.ContainsAnyExceptInRange(0, newestSent))
                        throw new IOException(
                            $"it sampled from weights that were never pushed (versions {string.Join(", ", versions.ToArray().Distinct())}, newest {newestSent})"
                        );
                    if (!ledger.Accept(e))
                        return;
                    if (e.Completion is { } completion)
                    {
                        share.Accepted++;
                        Recount(completion.Tokens.Length - share.Had(completion));
                    }
                    events.TryWrite(e);
                },
                stop
            );
        }
        catch (Exception) when (stop.IsCancellationRequested)
        {
            _ = worker.AbortAsync(batch); // a worker that hangs must not keep the caller waiting
            throw;
        }
        catch (Exception e) when (e is not (ArgumentException or TakenOverException))
        {
            worker.Fail(e.Message);
        }
        finally
        {
            worker.AddOutstanding(-counted, -owed);
            if (Volatile.Read(ref queued) > 0)
                Changed();
        }

        void Recount(int generated)
        {
            var (left, missing) = (ledger.Outstanding(share), ledger.Owed(share));
            worker.AddOutstanding(left - counted, missing - owed, generated);
            (counted, owed) = (left, missing);
            if (Volatile.Read(ref queued) > 0 && worker.OutstandingSamples <= window * 3 / 4)
                Changed(); // room for a whole handful
        }
    }

    private TimeSpan WorkersTimeout =>
        options.OthersStartWorkers ? options.WorkerWait : options.StartTimeout + TimeSpan.FromSeconds(5);
}
