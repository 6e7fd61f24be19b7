using System.Collections.Concurrent;
using System.Diagnostics;
using SimpleR1.Inference;

namespace SimpleR1.Cluster.Worker;

/// <summary>
/// The engine's thread while it is paused between two steps: it carries out orders, until one returns false or none
/// comes in time.
/// </summary>
internal sealed class EnginePause
{
    private readonly BlockingCollection<Func<Engine, bool>> orders = [];
    private readonly TaskCompletionSource begun = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private EnginePause() { }

    /// <summary>Completes when the engine is paused; fails when the engine has failed.</summary>
    public Task Begun => begun.Task;

    /// <summary>Completes when the engine's thread has left the pause.</summary>
    public Task Ended { get; private set; } = Task.CompletedTask;

    /// <summary>Timestamp (<see cref="Stopwatch"/>) of the beginning of the pause.</summary>
    public long BegunAt { get; private set; }

    /// <param name="before">What the engine does first.</param>
    /// <param name="timeout">Longest wait for the next order.</param>
    /// <param name="late">Called on the engine's thread when no order came in time.</param>
    public static EnginePause Begin(EngineThread engine, Action<Engine> before, TimeSpan timeout, Action late)
    {
        var pause = new EnginePause();
        pause.Ended = engine.BetweenStepsAsync(paused =>
        {
            before(paused);
            pause.BegunAt = Stopwatch.GetTimestamp();
            pause.begun.SetResult();
            while (pause.orders.TryTake(out var order, timeout))
                if (!order(paused))
                    return true;
            late();
            return false;
        });
        _ = pause.Ended.ContinueWith(
            ended => pause.begun.TrySetException(ended.Exception!.InnerException!),
            CancellationToken.None,
            TaskContinuationOptions.OnlyOnFaulted,
            TaskScheduler.Default
        );
        return pause;
    }

    /// <summary>
    /// Queues an order, which restarts the wait for the next one; one that returns false ends the pause.
    /// </summary>
    public void Order(Func<Engine, bool> order) => orders.Add(order);

    /// <summary>Restarts the wait for the next order.</summary>
    public void Extend() => Order(_ => true);
}
