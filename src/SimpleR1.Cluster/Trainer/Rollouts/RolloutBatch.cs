using System.Diagnostics;
using System.Threading.Channels;
using SimpleR1.Cluster.Trainer.Weights;
using SimpleR1.Inference;

namespace SimpleR1.Cluster.Trainer.Rollouts;

/// <summary>A share on its worker, with the load that is counted for it there.</summary>
internal sealed class AssignedShare
{
    private readonly RolloutLedger ledger;
    private long tokens;
    private int samples;

    public AssignedShare(RemoteWorker worker, RolloutShare share, RolloutLedger ledger)
    {
        Worker = worker;
        Share = share;
        this.ledger = ledger;
        Recount();
    }

    public RemoteWorker Worker { get; }
    public RolloutShare Share { get; }
    public int Missing => ledger.MissingSamples(Share);

    /// <summary>Counts what is left of the share.</summary>
    /// <param name="generated">Tokens of the sample that has just finished.</param>
    public void Recount(int generated = 0)
    {
        long tokensLeft = ledger.OutstandingTokens(Share);
        int samplesLeft = ledger.MissingSamples(Share);
        Worker.AddOutstanding(tokensLeft - tokens, samplesLeft - samples, generated);
        tokens = tokensLeft;
        samples = samplesLeft;
    }

    /// <summary>Counts nothing any more: the share has ended, or its worker is lost.</summary>
    public void Clear() => Worker.AddOutstanding(-tokens, -samples);
}

/// <summary>What all batches of a trainer share.</summary>
internal sealed record RolloutContext(
    WorkerList Workers,
    WeightPublisher Publisher,
    RolloutDispatcher Dispatcher,
    ClusterOptions Options
);

/// <summary>
/// One batch of requests, from the first one out to the last sample in. What a lost worker had not finished goes out again, so
/// that each sample comes once.
/// </summary>
internal sealed class RolloutBatch(
    string name,
    RolloutLedger ledger,
    RolloutCall call,
    ChannelWriter<TokenEvent> events,
    RolloutContext context
)
{
    private readonly WorkerList workers = context.Workers;
    private readonly RolloutDispatcher dispatcher = context.Dispatcher;
    private readonly ClusterOptions options = context.Options;
    private readonly Dictionary<Task, AssignedShare> running = [];
    private readonly long startedAt = Stopwatch.GetTimestamp();
    private int queued; // samples of this batch among the dispatcher's
    private bool cancelled; // the caller has enough

    /// <summary>Runs until every sample has come, or the batch fails or is stopped. The reader of the events gets the failure.</summary>
    public async Task RunAsync(CancellationToken stop)
    {
        using var abort = CancellationTokenSource.CreateLinkedTokenSource(stop);
        Exception? failure = null;
        try
        {
            while (!ledger.Complete)
                await StepAsync(stop, abort.Token);
        }
        catch (Exception e)
        {
            failure = e;
        }

        // What still runs is no longer needed.
        CountQueued(0);
        abort.Cancel();
        foreach (var rest in running.Keys)
            try
            {
                await rest;
            }
            catch (Exception) { } // the first failure is the one to report

        events.Complete(failure);
    }

    /// <summary>Sends out what has room, then waits until a share has ended or a worker has changed.</summary>
    private async Task StepAsync(CancellationToken stop, CancellationToken abort)
    {
        // Requests out, or an early end.
        var change = workers.NextChange();
        if (call.Enough.IsCancellationRequested)
            CancelRest();
        else
            foreach (var assigned in dispatcher.Assign(ledger, MayHedge()))
                running.Add(RunShareAsync(assigned, abort), assigned);
        CountQueued(ledger.UnassignedSamples);
        if (ledger.Complete)
            return;

        if (running.Count == 0)
        {
            await WaitForWorkerAsync(change, stop);
            return;
        }

        // Samples in. What waits goes to the first worker that has room, to one that has just joined too.
        bool wakes = ledger.HasUnassigned || options.HedgeAfter is not null || call.Enough.CanBeCanceled && !cancelled;
        var done = await Task.WhenAny(wakes ? [.. running.Keys, change, .. HedgeTime()] : running.Keys);
        if (!running.Remove(done, out var ended))
            return;

        await done; // a refused request ends the batch; a lost worker doesn't throw
        await ReleaseAsync(ended);
    }

    private void CountQueued(int samples)
    {
        dispatcher.AddQueued(samples - queued);
        queued = samples;
    }

    private async Task WaitForWorkerAsync(Task change, CancellationToken stop)
    {
        if (workers.HasAny(WorkerState.Ready))
            await change.WaitAsync(stop); // other batches have filled the workers' queues
        else
            await workers.WaitAsync(
                () => workers.HasAny(WorkerState.Ready) || call.Enough.IsCancellationRequested,
                workers.ArrivalTimeout,
                "a worker to be ready for the remaining samples",
                stop
            );
    }

    /// <summary>Takes back what a share has not finished, so that it goes out again.</summary>
    private async Task ReleaseAsync(AssignedShare ended)
    {
        var worker = ended.Worker;

        // A share that made progress is not blamed; one that made none is, so that it cannot be retried forever.
        string? blame = null;
        if (!worker.Drained && ended.Share.Accepted == 0)
            blame = worker.Death.IsCompleted ? await worker.Death : "";
        int released = ledger.Release(ended.Share, blame, killed: !worker.EngineFailed);
        if (released == 0)
            return;

        string outcome = cancelled ? "are cancelled with the tokens they have" : "go to other workers";
        options.Log($"{worker.Name}: {released} unfinished requests {outcome}");
    }

    /// <summary>Ends the batch early. Each step does it again, for the samples of workers that were lost since.</summary>
    private void CancelRest()
    {
        foreach (var completion in ledger.CancelUnassigned())
            events.TryWrite(TokenEvent.Of(completion));
        if (cancelled)
            return;

        cancelled = true;
        foreach (var assigned in running.Values)
            _ = assigned.Worker.CancelBatchAsync(BatchName(assigned));
    }

    private string BatchName(AssignedShare assigned) => $"{name}.{assigned.Share.Id}";

    private bool MayHedge() => !call.Stream && options.HedgeAfter is not null && HedgeTimeLeft() <= TimeSpan.Zero;

    private TimeSpan HedgeTimeLeft() => options.HedgeAfter!.Value - Stopwatch.GetElapsedTime(startedAt);

    private IEnumerable<Task> HedgeTime()
    {
        if (options.HedgeAfter is null || HedgeTimeLeft() <= TimeSpan.Zero)
            return [];

        return [Task.Delay(HedgeTimeLeft() + TimeSpan.FromMilliseconds(1), workers.Stopping)];
    }

    /// <summary>Runs one share until it is done or its worker is lost.</summary>
    private async Task RunShareAsync(AssignedShare assigned, CancellationToken stop)
    {
        var worker = assigned.Worker;
        var weights = context.Publisher.Current!;
        var run = new WorkerRun
        {
            Batch = BatchName(assigned),
            WeightVersion = weights.Version,
            WeightHash = weights.Hash,
            Requests = assigned.Share.Requests,
            Stream = call.Stream,
            Missing = () => assigned.Missing,
            Received = e => Receive(assigned, e),
        };
        try
        {
            await worker.RolloutAsync(run, stop);
        }
        catch (Exception) when (stop.IsCancellationRequested)
        {
            _ = worker.DropBatchAsync(run.Batch); // not awaited: a worker that hangs must not keep the caller waiting
            throw;
        }
        catch (Exception e) when (e is not (ArgumentException or TakenOverException))
        {
            worker.Fail(e.Message);
        }
        finally
        {
            assigned.Clear();
            dispatcher.NotifyRoom(worker, isDone: true);
        }
    }

    private void Receive(AssignedShare assigned, TokenEvent e)
    {
        int newest = context.Publisher.NewestSent;
        ReadOnlySpan<int> versions = e.Completion is null ? [e.WeightVersion] : e.Completion.WeightVersions;
        if (versions.ContainsAnyExceptInRange(0, newest))
            throw new IOException(
                "it sampled from weights that were never pushed "
                    + $"(versions {string.Join(", ", versions.ToArray().Distinct())}, newest {newest})"
            );

        if (!ledger.Accept(e))
            return;

        if (e.Completion is { } completion)
        {
            assigned.Share.Accepted++;
            assigned.Recount(completion.Tokens.Length - assigned.Share.TokensBefore(completion));
            dispatcher.NotifyRoom(assigned.Worker, isDone: false);
        }
        events.TryWrite(e);
    }
}
