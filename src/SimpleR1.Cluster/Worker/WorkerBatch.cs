using SimpleR1.Inference;

namespace SimpleR1.Cluster.Worker;

/// <summary>Requests that a worker was given together, and what has come of them: kept until the trainer says that it arrived.</summary>
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
    private IReadOnlyList<string> ids = []; // the engine's
    private string? rejected,
        failed;

    public string Name => name;

    /// <summary>Nothing runs any more, and all was handed over at least once.</summary>
    public bool Done
    {
        get
        {
            lock (gate)
                return complete && sent == arrived + kept.Count;
        }
    }

    /// <summary>Runs the requests to their end, or until aborted.</summary>
    /// <param name="stream">Keep every token, not completions alone.</param>
    public async Task RunAsync(EngineThread engine, IReadOnlyList<GenerationRequest> requests, bool stream)
    {
        // The engine wants ids that differ over all batches; the trainer only promises it within one.
        string prefix = name + '/';
        string? problem = null,
            failure = null;
        GenerationRequest[] own = [.. requests.Select(r => r with { Id = prefix + r.Id })];
        ids = [.. own.Select(r => r.Id)];
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
        Change(() => (complete, rejected, failed) = (true, problem, failure));

        void Keep(EventMessage message) => Change(() => kept.Add(message));
    }

    /// <summary>What still runs completes as aborted, with the tokens it has.</summary>
    public Task BreakOffAsync(EngineThread engine) =>
        engine.BetweenStepsAsync(e =>
        {
            foreach (string id in ids)
                e.Abort(id);
            return true;
        });

    /// <summary>Forgets what has arrived, and hands over what comes after; waits for something, at most the given time. How the worker is, the caller adds.</summary>
    public async Task<ProgressMessage> NextAsync(int received, TimeSpan wait)
    {
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
        if (!pulse.IsCompleted)
            await Task.WhenAny(pulse, Task.Delay(wait)); // nothing finished yet: an empty answer shows that this worker lives
        lock (gate)
        {
            int count = 0;
            for (int tokens = 0; count < kept.Count && tokens < MaxReplyTokens; count++)
                tokens += 1 + (kept[count].Completion?.Tokens.Length ?? 0) / sizeof(int);
            sent = Math.Max(sent, arrived + count);
            return new([.. kept[..count]], rejected, failed, 0, 0, complete && count == kept.Count, false);
        }
    }

    public void Abort() => stop.Cancel();

    private void Change(Action change)
    {
        TaskCompletionSource pulse;
        lock (gate)
        {
            change();
            (pulse, changed) = (changed, new(TaskCreationOptions.RunContinuationsAsynchronously));
        }
        pulse.SetResult();
    }
}
