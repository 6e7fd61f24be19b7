using System.Diagnostics;
using SimpleR1.Cluster.Wire;
using SimpleR1.Inference;

namespace SimpleR1.Cluster.Trainer.Rollouts;

/// <summary>A worker's part of a batch, with the trainer's side of it.</summary>
internal sealed record WorkerRun
{
    /// <summary>The batch's name on the worker.</summary>
    public required string Batch { get; init; }
    public required int WeightVersion { get; init; }
    public required ulong WeightHash { get; init; }
    public required IReadOnlyList<GenerationRequest> Requests { get; init; }

    /// <summary>The trainer wants every token as it is sampled, not completions alone.</summary>
    public required bool Stream { get; init; }

    /// <summary>Counts the samples that are still missing.</summary>
    public required Func<int> Missing { get; init; }

    /// <summary>Takes each event as it arrives.</summary>
    public required Action<TokenEvent> Received { get; init; }
}

/// <summary>One run of requests on one worker, from their submission to the last event.</summary>
internal sealed class WorkerRollout(
    RemoteWorker worker,
    WorkerLink link,
    WorkerRun run,
    string session,
    ClusterOptions options
)
{
    private static readonly TimeSpan PollTime = TimeSpan.FromSeconds(1);

    private long progress = -1; // the engine's, as last seen
    private long grewAt; // when that was

    /// <summary>Runs the requests, and passes on each event as it arrives, until no sample is missing.</summary>
    /// <returns>False when the worker took none, because it was asked to leave.</returns>
    /// <exception cref="ArgumentException">No worker can serve the requests.</exception>
    /// <exception cref="IOException">The worker is lost or failed, or must not be sampled from.</exception>
    /// <exception cref="TimeoutException">The worker does not answer, or its engine makes no step.</exception>
    public async Task<bool> RunAsync(CancellationToken cancellation)
    {
        if (!await SubmitAsync(cancellation))
            return false;

        grewAt = Stopwatch.GetTimestamp();
        int received = 0;
        bool done = false;
        while (run.Missing() > 0)
        {
            int arrived = received;
            var reply = await link.CallAsync(
                grain => grain.NextAsync(run.Batch, arrived, PollTime.TotalSeconds),
                PollTime + options.ResponseTimeout,
                "say what has finished",
                cancellation
            );
            Examine(reply);
            foreach (var e in reply.Events)
                run.Received(e.ToEvent());
            received += reply.Events.Length;
            done = reply.Done;

            if (done && run.Missing() > 0 && reply.Events.Length == 0)
                throw new IOException($"it says that all is done, with {run.Missing()} samples missing");
            WatchProgress(reply.Progress);
        }

        if (!done)
            _ = worker.DropBatchAsync(run.Batch); // other workers were faster
        return true;
    }

    /// <returns>False when the worker took no requests, because it was asked to leave.</returns>
    private async Task<bool> SubmitAsync(CancellationToken cancellation)
    {
        var message = new SubmitMessage
        {
            Session = session,
            Batch = run.Batch,
            WeightVersion = run.WeightVersion,
            // The worker's own is in its element type.
            WeightHash = run.WeightVersion == worker.Version ? worker.Hash : run.WeightHash,
            Requests = [.. run.Requests.Select(RequestMessage.From)],
            Stream = run.Stream,
        };
        var reply = await link.CallAsync(
            grain => grain.SubmitAsync(message),
            options.ResponseTimeout,
            $"take {run.Requests.Count} requests",
            cancellation
        );
        if (reply.TakenOver)
            throw worker.TakenOver();
        if (reply.Refused is { } refused)
            throw new IOException(refused);
        if (reply.Draining)
            worker.Become(WorkerState.Draining);

        return !reply.Draining;
    }

    private void Examine(ProgressMessage reply)
    {
        if (reply.Rejected is { } rejected)
            throw new ArgumentException(rejected);
        if (reply.Failed is { } failed)
        {
            worker.MarkEngineFailed();
            throw new IOException("its engine failed: " + failed);
        }

        if (reply.Draining)
            worker.Become(WorkerState.Draining);
        worker.AddPeakMemory(reply.PeakMemory);
    }

    /// <summary>Suspects an engine that has work and makes no step, and gives it up after a while.</summary>
    private void WatchProgress(long current)
    {
        if (current != progress || worker.State is WorkerState.Receiving or WorkerState.Waiting)
        {
            progress = current;
            grewAt = Stopwatch.GetTimestamp();
        }

        var stalled = Stopwatch.GetElapsedTime(grewAt);
        if (stalled > options.StallTimeout && run.Missing() > 0)
            throw new TimeoutException(
                $"its engine made no step for {stalled.TotalSeconds:0} s with {run.Missing()} samples to do"
            );

        if (stalled > options.StallTimeout / 4)
            worker.Become(WorkerState.Suspect);
        else if (worker.State == WorkerState.Suspect)
            worker.Become(WorkerState.Ready);
    }
}
