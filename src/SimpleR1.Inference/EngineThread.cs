using System.Runtime.CompilerServices;
using System.Threading.Channels;

namespace SimpleR1.Inference;

/// <summary>
/// An engine on its own thread, for asynchronous callers. Their calls are queued and run between two steps; when the
/// engine fails, every waiting and later call fails with its exception.
/// </summary>
public sealed class EngineThread : IAsyncDisposable
{
    private static readonly TimeSpan StepTimeout = TimeSpan.FromMinutes(2);

    private readonly Channel<Action<Engine>> commands = Channel.CreateUnbounded<Action<Engine>>(
        new() { SingleReader = true }
    );
    private readonly HashSet<Action<Exception>> waitingCalls = []; // how to fail each waiting call; locked
    private readonly TaskCompletionSource ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TimeSpan drainTimeout;
    private volatile EngineStatistics statistics = new();
    private volatile bool stopping;
    private long stopAt = long.MaxValue;
    private Exception? failure;

    /// <param name="create">Makes the engine, on its thread; the thread disposes it.</param>
    /// <param name="drainTimeout">
    /// How long <see cref="DisposeAsync"/> lets running requests finish before it aborts them; by default it aborts at
    /// once.
    /// </param>
    public EngineThread(Func<Engine> create, TimeSpan drainTimeout = default)
    {
        this.drainTimeout = drainTimeout;
        new Thread(() => Run(create)) { Name = "engine", IsBackground = true }.Start();
    }

    /// <summary>The engine's statistics after its last step.</summary>
    public EngineStatistics Statistics => statistics;

    /// <summary>The exception that stopped the engine; null while it takes work.</summary>
    public Exception? Failure => failure;

    /// <summary>Runs requests and returns all completions, ordered by request, then sample.</summary>
    /// <exception cref="ArgumentException">A request is refused; none of them runs.</exception>
    public async Task<IReadOnlyList<Completion>> GenerateAsync(
        IReadOnlyList<GenerationRequest> requests,
        CancellationToken cancellation = default
    )
    {
        var order = new Dictionary<string, int>();
        foreach (var request in requests)
            order.TryAdd(request.Id, order.Count); // Submit refuses equal ids

        var completions = new List<Completion>();
        await foreach (var completion in CompletionsAsync(requests, cancellation))
            completions.Add(completion);

        return [.. completions.OrderBy(c => order[c.RequestId]).ThenBy(c => c.SampleIndex)];
    }

    /// <summary>
    /// Runs requests and returns completions as they finish. Cancelling, or leaving the loop, aborts what still runs.
    /// </summary>
    public IAsyncEnumerable<Completion> CompletionsAsync(
        IReadOnlyList<GenerationRequest> requests,
        CancellationToken cancellation = default
    ) =>
        StartAsync<Completion>(
            requests,
            (engine, emit) => engine.Submit(requests, onCompletion: c => emit(c, true)),
            cancellation
        );

    /// <summary>
    /// Runs a request and returns its tokens as they are sampled. Cancelling, or leaving the loop, aborts what still
    /// runs.
    /// </summary>
    public IAsyncEnumerable<TokenEvent> StreamAsync(
        GenerationRequest request,
        CancellationToken cancellation = default
    ) => EventsAsync([request], cancellation);

    /// <summary>Runs requests and returns the tokens of all of them as they are sampled.</summary>
    public IAsyncEnumerable<TokenEvent> EventsAsync(
        IReadOnlyList<GenerationRequest> requests,
        CancellationToken cancellation = default
    ) =>
        StartAsync<TokenEvent>(
            requests,
            (engine, emit) => engine.Submit(requests, onToken: e => emit(e, e.Completion is not null)),
            cancellation
        );

    /// <summary>Runs work between two steps: a weight update, an abort, a look at the engine.</summary>
    public async Task<T> BetweenStepsAsync<T>(Func<Engine, T> work)
    {
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        using var call = AddWaiting(e => done.TrySetException(e));
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

    /// <summary>Submits requests, and returns results until every sample has completed.</summary>
    /// <param name="submit">
    /// Submits to the engine; gets a callback for each result and whether it is its sample's last.
    /// </param>
    private async IAsyncEnumerable<T> StartAsync<T>(
        IReadOnlyList<GenerationRequest> requests,
        Action<Engine, Action<T, bool>> submit,
        [EnumeratorCancellation] CancellationToken cancellation
    )
    {
        cancellation.ThrowIfCancellationRequested();
        if (requests.Count == 0)
            yield break;

        // Submit between two steps.
        var results = Channel.CreateUnbounded<T>(new() { SingleReader = true });
        int remaining = requests.Sum(r => r.Count);
        bool submitted = false;
        using var call = AddWaiting(e => results.Writer.TryComplete(e));
        Post(engine =>
        {
            try
            {
                submit(engine, Emit);
                submitted = true;
            }
            catch (Exception e)
            {
                results.Writer.TryComplete(e);
            }
        });

        // Return results; abort what still runs when the caller leaves.
        try
        {
            await foreach (var result in results.Reader.ReadAllAsync(cancellation))
                yield return result;
        }
        finally
        {
            // Runs after the submission, so that what it sees is final.
            commands.Writer.TryWrite(engine =>
            {
                if (!submitted || remaining == 0)
                    return;
                foreach (var request in requests)
                    engine.Abort(request.Id);
            });
        }

        void Emit(T result, bool isLast)
        {
            results.Writer.TryWrite(result);
            if (isLast && --remaining == 0)
                results.Writer.TryComplete();
        }
    }

    private void Post(Action<Engine> command)
    {
        if (!commands.Writer.TryWrite(command))
            throw failure is { } e ? EngineFailed(e) : new ObjectDisposedException(nameof(EngineThread));
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

                bool mustStop = stopping && Environment.TickCount64 >= Interlocked.Read(ref stopAt);
                bool worked = !mustStop && engine.Step();
                statistics = engine.Statistics;
                if (!worked && !commands.Reader.WaitToReadAsync().AsTask().GetAwaiter().GetResult())
                    break;
            }

            FailWaiting(new OperationCanceledException("the engine was shut down before the request was complete"));
        }
        catch (Exception e)
        {
            failure = e;
            commands.Writer.TryComplete();
            FailWaiting(EngineFailed(e));
        }
        finally
        {
            engine?.Dispose();
            ended.TrySetResult();
        }
    }

    private static InvalidOperationException EngineFailed(Exception e) =>
        new("the inference engine failed: " + e.Message, e);

    private void FailWaiting(Exception reason)
    {
        lock (waitingCalls)
        {
            foreach (var fail in waitingCalls)
                fail(reason);
        }
    }

    private WaitingCall AddWaiting(Action<Exception> fail)
    {
        lock (waitingCalls)
            waitingCalls.Add(fail);
        return new(this, fail);
    }

    private sealed class WaitingCall(EngineThread owner, Action<Exception> fail) : IDisposable
    {
        public void Dispose()
        {
            lock (owner.waitingCalls)
                owner.waitingCalls.Remove(fail);
        }
    }
}
