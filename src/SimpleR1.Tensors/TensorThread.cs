using System.Collections.Concurrent;

namespace SimpleR1.Tensors;

/// <summary>
/// The one thread that runs a process's tensor code. libtorch's dispose scopes and grad modes are per thread, and
/// each thread that starts an OpenMP loop gets its own pool: work that moved between threads would run on several
/// pools at once.
/// </summary>
public sealed class TensorThread : IDisposable
{
    private readonly BlockingCollection<Action> work = [];
    private readonly Thread thread;

    public TensorThread(string name)
    {
        thread = new Thread(() =>
        {
            foreach (var action in work.GetConsumingEnumerable())
                action();
        })
        {
            Name = name,
            IsBackground = true,
        };
        thread.Start();
    }

    /// <summary>
    /// Runs <paramref name="work"/> on the thread after what was queued before; its exception is the task's.
    /// </summary>
    public Task<T> RunAsync<T>(Func<T> work)
    {
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        this.work.Add(() =>
        {
            try
            {
                done.SetResult(work());
            }
            catch (Exception e)
            {
                done.SetException(e);
            }
        });
        return done.Task;
    }

    /// <inheritdoc cref="RunAsync{T}"/>
    public Task RunAsync(Action work) =>
        RunAsync(() =>
        {
            work();
            return true;
        });

    /// <summary>Finishes what is queued, then ends the thread.</summary>
    public void Dispose()
    {
        work.CompleteAdding();
        if (Thread.CurrentThread != thread)
            thread.Join();
        work.Dispose();
    }
}
