using SimpleR1.Inference;

namespace SimpleR1.Cluster;

/// <summary>Requests that a worker was given together, and what has finished of them: kept until the trainer says that it arrived.</summary>
internal sealed class WorkerBatch(string name)
{
    private const int MaxReplyTokens = 1 << 18; // a reply of some megabytes

    private readonly Lock gate = new();
    private readonly List<CompletionMessage> kept = [];
    private readonly CancellationTokenSource stop = new();
    private TaskCompletionSource changed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int arrived, sent;
    private bool complete;
    private string? rejected, failed;

    public string Name => name;

    /// <summary>Nothing runs any more, and all was handed over at least once.</summary>
    public bool Done { get { lock (gate) return complete && sent == arrived + kept.Count; } }

    /// <summary>Runs the requests to their end, or until aborted.</summary>
    public async Task RunAsync(EngineThread engine, IReadOnlyList<GenerationRequest> requests)
    {
        // The engine wants ids that differ over all batches; the trainer only promises it within one.
        string prefix = name + '/';
        string? problem = null, failure = null;
        try
        {
            await foreach (var completion in engine.CompletionsAsync([.. requests.Select(r => r with { Id = prefix + r.Id })], stop.Token))
                Change(() => kept.Add(CompletionMessage.From(completion with { RequestId = completion.RequestId[prefix.Length..] })));
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested) { }
        catch (Exception e) when (e is ArgumentException or NotSupportedException) { problem = e.Message.Replace(prefix, "", StringComparison.Ordinal); }
        catch (Exception e)
        {
            Console.Error.WriteLine(e); // the trainer gets the message only
            failure = e.Message.Replace(prefix, "", StringComparison.Ordinal);
        }
        Change(() => (complete, rejected, failed) = (true, problem, failure));
    }

    /// <summary>Forgets what has arrived, and hands over what comes after; waits for something, at most the given time. How the worker is, the caller adds.</summary>
    public async Task<CompletionsMessage> NextAsync(int received, TimeSpan wait)
    {
        Task pulse;
        lock (gate)
        {
            if (received < arrived || received > arrived + kept.Count)
                throw new InvalidOperationException($"Of batch {name}, {arrived} to {arrived + kept.Count} completions can have arrived, not {received}");
            kept.RemoveRange(0, received - arrived);
            arrived = received;
            pulse = kept.Count > 0 || complete ? Task.CompletedTask : changed.Task;
        }
        if (!pulse.IsCompleted) await Task.WhenAny(pulse, Task.Delay(wait)); // nothing finished yet: an empty answer shows that this worker lives
        lock (gate)
        {
            int count = 0;
            for (int tokens = 0; count < kept.Count && tokens < MaxReplyTokens; count++) tokens += kept[count].Tokens.Length / sizeof(int);
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
