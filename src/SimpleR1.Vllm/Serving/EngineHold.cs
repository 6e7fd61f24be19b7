using System.Collections.Concurrent;
using SimpleR1.Inference;
using SimpleR1.Server.Sources;

namespace SimpleR1.Vllm.Serving;

/// <summary>The engine's thread, held between two steps; orders are carried out there.</summary>
internal sealed class EngineHold
{
    private readonly BlockingCollection<Action<Engine>> orders = [];
    private Task ended = Task.CompletedTask;

    private EngineHold() { }

    /// <summary>Holds the engine; returns when it is paused.</summary>
    /// <exception cref="InvalidOperationException">The engine has failed.</exception>
    public static async Task<EngineHold> BeginAsync(LocalCompletions source)
    {
        var hold = new EngineHold();
        var paused = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        hold.ended = source.BetweenStepsAsync(engine =>
        {
            paused.SetResult();
            foreach (var order in hold.orders.GetConsumingEnumerable())
                order(engine);
            return true;
        });
        if (await Task.WhenAny(paused.Task, hold.ended) == hold.ended)
            await hold.ended; // throws the engine's failure
        return hold;
    }

    /// <summary>Runs an order on the engine's thread.</summary>
    public Task OrderAsync(Action<Engine> order)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        orders.Add(engine =>
        {
            try
            {
                order(engine);
                done.SetResult();
            }
            catch (Exception e)
            {
                done.SetException(e);
            }
        });
        return done.Task;
    }

    /// <summary>Lets the engine resume after the orders given so far.</summary>
    public Task EndAsync()
    {
        orders.CompleteAdding();
        return ended;
    }
}
