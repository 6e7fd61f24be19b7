using System.Runtime.CompilerServices;
using System.Threading.Channels;

namespace SimpleR1.Inference;

/// <summary>
/// An engine on a thread of its own, for asynchronous callers. What they ask for is queued and done between two steps;
/// when the engine fails, every waiting and later call fails with its exception.
/// </summary>
public sealed class EngineThread : IAsyncDisposable
{
    private static readonly TimeSpan StepTimeout = TimeSpan.FromMinutes(2);

    private readonly Channel<Action<Engine>> commands = Channel.CreateUnbounded<Action<Engine>>(
        new() { SingleReader = true }
    );
    private readonly HashSet<Action<Exception>> calls = []; // how to fail each waiting call; locked
    private readonly TaskCompletionSource ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TimeSpan drainTimeout;
    private volatile EngineStatistics statistics = new();
    private volatile bool stopping;
    private long stopAt = long.MaxValue;
    private Exception? failure;

    /// <param name="create">Makes the engine, on its thread; the thread disposes it.</param>
    /// <param name="drainTimeout">How long <see cref="DisposeAsync"/> lets running requests finish before it aborts them; none by default.</param>
    public EngineThread(Func<Engine> create, TimeSpan drainTimeout = default)
    {
        this.drainTimeout = drainTimeout;
        new Thread(() => Run(create)) { Name = "engine", IsBackground = true }.Start();
    }

    /// <summary>As of the last step.</summary>
    public EngineStatistics Statistics => statistics;

    /// <summary>Why the engine takes no more work; null while it does.</summary>
    public Exception? Failure => failure;

    /// <summary>All completions of the requests, ordered by request, then sample.</summary>
    /// <exception cref="ArgumentException">A request is refused; then none runs.</exception>
    public async Task<IReadOnlyList<Completion>> GenerateAsync(
        IReadOnlyList<GenerationRequest> requests,
        CancellationToken cancellation = default
    )
    {
        var order = requests.Select((r, i) => (r.Id, i)).DistinctBy(r => r.Id).ToDictionary(r => r.Id, r => r.i); // Submit refuses equal ids
        var completions = new List<Completion>();
        await foreach (var completion in CompletionsAsync(requests, cancellation))
            completions.Add(completion);
        return [.. completions.OrderBy(c => order[c.RequestId]).ThenBy(c => c.SampleIndex)];
    }

    /// <summary>The requests' completions as they finish. Cancelling, or leaving the loop, aborts what still runs.</summary>
    public IAsyncEnumerable<Completion> CompletionsAsync(
        IReadOnlyList<GenerationRequest> requests,
        CancellationToken cancellation = default
    ) =>
        StartAsync<Completion>(
            requests,
            (engine, give) => engine.Submit(requests, onCompletion: c => give(c, true)),
            cancellation
        );

    /// <summary>A request's tokens as they are sampled. Cancelling, or leaving the loop, aborts what still runs.</summary>
    public IAsyncEnumerable<TokenEvent> StreamAsync(
        GenerationRequest request,
        CancellationToken cancellation = default
    ) => EventsAsync([request], cancellation);

    /// <summary>All requests' tokens as they are sampled, mixed.</summary>
    public IAsyncEnumerable<TokenEvent> EventsAsync(
        IReadOnlyList<GenerationRequest> requests,
        CancellationToken cancellation = default
    ) =>
        StartAsync<TokenEvent>(
            requests,
            (engine, give) => engine.Submit(requests, onToken: e => give(e, e.Completion is not null)),
            cancellation
        );

    /// <summary>Runs something between two steps: a weight update, an abort, a look at the engine.</summary>
    public async Task<T> BetweenStepsAsync<T>(Func<Engine, T> work)
    {
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        using var call = Waiting(e => done.TrySetException(e));
        Post(engine =>
        {
            try
            {
                engine.Quiesce(); // between two steps, not while one runs
                done.TrySetResult(work(engine));
            }
            catch (Exception e)
            {
                done.TrySetException(e);
            }
        });
        return await done.Task;
    }

    /// <summary>Lets running requests finish for the drain timeout, aborts the rest, and ends the thread.</summary>
    public async ValueTask DisposeAsync()
    {
        Interlocked.Exchange(ref stopAt, Environment.TickCount64 + (long)drainTimeout.TotalMilliseconds);
        stopping = true;
        commands.Writer.TryComplete();
        try
        {
            await ended.Task.WaitAsync(drainTimeout + StepTimeout);
        }
        catch (TimeoutException e)
        {
            throw new TimeoutException(
                $"the engine's thread did not end within {drainTimeout + StepTimeout}: a step or a callback hangs",
                e
            );
        }
    }

    /// <summary>Submits, and passes on what comes until every sample has completed.</summary>
    private async IAsyncEnumerable<T> StartAsync<T>(
        IReadOnlyList<GenerationRequest> requests,
        Action<Engine, Action<T, bool>> submit,
        [EnumeratorCancellation] CancellationToken cancellation
    )
    {
        cancellation.ThrowIfCancellationRequested();
        var results = Channel.CreateUnbounded<T>(new() { SingleReader = true });
        int left = requests.Sum(r => r.Count);
        if (requests.Count == 0)
            yield break;
        bool submitted = false;
        using var call = Waiting(e => results.Writer.TryComplete(e));
        Post(engine =>
        {
            try
            {
                submit(
                    engine,
                    (result, last) =>
                    {
                        results.Writer.TryWrite(result);
                        if (last && --left == 0)
                            results.Writer.TryComplete();
                    }
                );
                submitted = true;
            }
            catch (Exception e)
            {
                results.Writer.TryComplete(e);
            }
        });
        try
        {
            await foreach (var result in results.Reader.ReadAllAsync(cancellation))
                yield return result;
        }
        finally
        {
            commands.Writer.TryWrite(engine => // runs after the submission, so that what it sees is final
            {
                if (!submitted || left == 0)
                    return;
                foreach (var request in requests)
                    engine.Abort(request.Id);
            });
        }
    }

    private void Post(Action<Engine> command)
    {
        if (!commands.Writer.TryWrite(command))
            throw failure is { } e ? Failed(e) : new ObjectDisposedException(nameof(EngineThread));
    }

    private void Run(Func<Engine> create)
    {
        Engine? engine = null;
        try
        {
            engine = create();
            while (true)
            {
                while (commands.Reader.TryRead(out var command))
                    command(engine);
                bool worked = !(stopping && Environment.TickCount64 >= Interlocked.Read(ref stopAt)) && engine.Step();
                statistics = engine.Statistics;
                if (!worked && !commands.Reader.WaitToReadAsync().AsTask().GetAwaiter().GetResult())
                    break;
            }
            EndCalls(new OperationCanceledException("the engine was shut down before the request was complete"));
        }
        catch (Exception e)
        {
            failure = e;
            commands.Writer.TryComplete();
            EndCalls(Failed(e));
        }
        finally
        {
            engine?.Dispose();
            ended.TrySetResult();
        }
    }

    private static InvalidOperationException Failed(Exception e) => new("the inference engine failed: " + e.Message, e);

    private void EndCalls(Exception reason)
    {
        lock (calls)
        {
            foreach (var fail in calls)
                fail(reason);
        }
    }

    private Call Waiting(Action<Exception> fail)
    {
        lock (calls)
            calls.Add(fail);
        return new(this, fail);
    }

    private sealed class Call(EngineThread owner, Action<Exception> fail) : IDisposable
    {
        public void Dispose()
        {
            lock (owner.calls)
                owner.calls.Remove(fail);
        }
    }
}
