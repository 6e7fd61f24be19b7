using SimpleR1.Cluster.Wire;
using SimpleR1.Inference;

namespace SimpleR1.Cluster.Worker;

/// <summary>Requests that a worker got together, and their events: kept until the trainer confirms that these have arrived.</summary>
internal sealed class WorkerBatch(string name)
{
    private const int MaxReplyTokens = 1 << 18; // a reply of some megabytes

    private readonly Lock gate = new();
    private readonly List<EventMessage> kept = [];
    private readonly CancellationTokenSource stop = new();
    private TaskCompletionSource changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int arrived,
        sent;
    private bool complete;
    private IReadOnlyList<string> engineIds = [];
    private string? rejected,
        failed;

    public string Name => name;

    /// <summary>Nothing of the batch runs, and every event was handed over at least once.</summary>
    public bool Done
    {
        get
        {
            lock (gate)
                return complete && sent == arrived + kept.Count;
        }
    }

    /// <summary>Runs the requests to their end, or until the batch is dropped.</summary>
    /// <param name="stream">Keep every token, not completions alone.</param>
    public async Task RunAsync(EngineThread engine, IReadOnlyList<GenerationRequest> requests, bool stream)
    {
        // The engine needs ids that differ over all batches; the trainer's differ within one.
        string prefix = name + '/';
        GenerationRequest[] own = [.. requests.Select(r => r with { Id = prefix + r.Id })];
        engineIds = [.. own.Select(r => r.Id)];

        string? problem = null,
            failure = null;
        try
        {
            if (stream)
                await foreach (var e in engine.EventsAsync(own, stop.Token))
                    Keep(EventMessage.From(e, e.RequestId[prefix.Length..]));
            else
                await foreach (var c in engine.CompletionsAsync(own, stop.Token))
                    Keep(EventMessage.From(TokenEvent.Of(c), c.RequestId[prefix.Length..]));
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested) { }
        catch (Exception e) when (e is ArgumentException or NotSupportedException)
        {
            problem = e.Message.Replace(prefix, "", StringComparison.Ordinal);
        }
        catch (Exception e)
        {
            Console.Error.WriteLine(e); // the trainer gets the message only
            failure = e.Message.Replace(prefix, "", StringComparison.Ordinal);
        }

        Change(() =>
        {
            complete = true;
            rejected = problem;
            failed = failure;
        });
    }

    private void Keep(EventMessage message) => Change(() => kept.Add(message));

    /// <summary>Completes unfinished samples as aborted, with the tokens they have.</summary>
    public Task CancelAsync(EngineThread engine) =>
        engine.BetweenStepsAsync(e =>
        {
            foreach (string id in engineIds)
                e.Abort(id);
            return true;
        });

    /// <summary>
    /// Forgets the events that have arrived, and hands over later ones. Waits for an event, at most the given time. The caller
    /// adds the worker's condition.
    /// </summary>
    public async Task<ProgressMessage> NextAsync(int received, TimeSpan wait)
    {
        // What has arrived is forgotten.
        Task pulse;
        lock (gate)
        {
            if (received < arrived || received > arrived + kept.Count)
                throw new InvalidOperationException(
                    $"Of batch {name}, {arrived} to {arrived + kept.Count} events can have arrived, not {received}"
                );
            kept.RemoveRange(0, received - arrived);
            arrived = received;
            pulse = kept.Count > 0 || complete ? Task.CompletedTask : changed.Task;
        }

        // Where nothing comes in time, the empty answer shows that this worker lives.
        if (!pulse.IsCompleted)
            await Task.WhenAny(pulse, Task.Delay(wait));

        // As many events as a reply may hold.
        lock (gate)
        {
            int count = 0;
            for (int tokens = 0; count < kept.Count && tokens < MaxReplyTokens; count++)
                tokens += 1 + (kept[count].Completion?.Tokens.Length ?? 0) / sizeof(int);
            sent = Math.Max(sent, arrived + count);

            return new()
            {
                Events = [.. kept[..count]],
                Rejected = rejected,
                Failed = failed,
                Done = complete && count == kept.Count,
            };
        }
    }

    /// <summary>Stops the batch; its events are of no use any more.</summary>
    public void Drop() => stop.Cancel();

    private void Change(Action change)
    {
        TaskCompletionSource pulse;
        lock (gate)
        {
            change();
            pulse = changed;
            changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
        }
        pulse.SetResult();
    }
}
