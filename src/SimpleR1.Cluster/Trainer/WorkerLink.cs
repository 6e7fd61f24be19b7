using System.Diagnostics;
using SimpleR1.Cluster.Membership;

namespace SimpleR1.Cluster.Trainer;

/// <summary>
/// The trainer's connection to a worker process: a grain on the worker's silo. Every call has a deadline that names what it
/// waits for, and is retried after a reconnect.
/// </summary>
internal sealed class WorkerLink(RemoteWorker worker, ClusterOptions options)
{
    private static readonly TimeSpan SuspectAfter = TimeSpan.FromSeconds(4),
        RetryInterval = TimeSpan.FromMilliseconds(100);

    private readonly Lock gate = new();
    private TaskCompletionSource attached = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Connection? current;

    private sealed record Connection(SiloAddress Address, IWorkerGrain Grain, CancellationTokenSource Cut);

    /// <summary>The worker's silo; null while there is no connection.</summary>
    public SiloAddress? Address
    {
        get
        {
            lock (gate)
                return current?.Address;
        }
    }

    /// <returns>Whether there was no connection before, so that the worker must be set up.</returns>
    public bool Attach(ClusterSilo silo, SiloAddress address)
    {
        lock (gate)
        {
            bool isNew = current is null && !attached.Task.IsCompleted;
            current?.Cut.Cancel();
            current = new(address, silo.Grains.GetGrain<IWorkerGrain>(address.ToParsableString()), new());
            attached.TrySetResult();

            return isNew;
        }
    }

    /// <summary>Ends the connection, because this process joins another cluster. The worker must be found there in time.</summary>
    public void Detach()
    {
        CancellationTokenSource cut;
        lock (gate)
        {
            if (current is null)
                return;

            cut = current.Cut;
            current = null;
            attached = new(TaskCreationOptions.RunContinuationsAsynchronously);
        }
        cut.Cancel();
        worker.Become(WorkerState.Suspect);
        _ = AwaitReturnAsync();
    }

    private async Task AwaitReturnAsync()
    {
        try
        {
            await ConnectionAsync(worker.Lost);
        }
        catch (TimeoutException e)
        {
            worker.Fail(e.Message);
        }
        catch (OperationCanceledException) { }
    }

    private async Task<Connection> ConnectionAsync(CancellationToken cancellation)
    {
        while (true)
        {
            Task arrival;
            lock (gate)
            {
                if (current is not null)
                    return current;

                arrival = attached.Task;
            }

            try
            {
                await arrival.WaitAsync(options.RejoinTimeout, cancellation);
            }
            catch (TimeoutException)
            {
                throw new TimeoutException(
                    $"Waited {options.RejoinTimeout.TotalSeconds:0} s for {worker.Name} to join the cluster again"
                );
            }
        }
    }

    /// <inheritdoc cref="CallAsync{T}"/>
    public Task CallAsync(
        Func<IWorkerGrain, Task> call,
        TimeSpan timeout,
        string awaited,
        CancellationToken cancellation
    )
    {
        return CallAsync(AnswerAsync, timeout, awaited, cancellation);

        async Task<bool> AnswerAsync(IWorkerGrain grain)
        {
            await call(grain);
            return true;
        }
    }

    /// <summary>Calls the worker, and calls again where the connection was lost.</summary>
    /// <param name="timeout">Time for an answer.</param>
    /// <param name="awaited">What the worker is asked to do, for errors: "build its engine".</param>
    /// <exception cref="IOException">The worker is lost, or can't be reached.</exception>
    /// <exception cref="TimeoutException">The worker does not answer, or does not join again in time.</exception>
    public async Task<T> CallAsync<T>(
        Func<IWorkerGrain, Task<T>> call,
        TimeSpan timeout,
        string awaited,
        CancellationToken cancellation
    )
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation, worker.Lost);
        long? lostAt = null;
        while (true)
            try
            {
                var connection = await ConnectionAsync(stop.Token);
                try
                {
                    return await AnswerAsync(
                        call(connection.Grain),
                        timeout,
                        awaited,
                        stop.Token,
                        connection.Cut.Token
                    );
                }
                catch (Exception e)
                    when (!stop.IsCancellationRequested
                        && (connection.Cut.IsCancellationRequested || e is OrleansException or ObjectDisposedException)
                    )
                {
                    // The connection was lost, or membership doesn't know the worker yet; its silo may come back elsewhere.
                    if (worker.State == WorkerState.Ready)
                        worker.Become(WorkerState.Suspect);
                    lostAt ??= Stopwatch.GetTimestamp();
                    if (Stopwatch.GetElapsedTime(lostAt.Value) > options.RejoinTimeout)
                        throw new IOException(
                            $"For {options.RejoinTimeout.TotalSeconds:0} s {worker.Name} can't be reached to {awaited}: "
                                + e.Message,
                            e
                        );
                }

                await Task.Delay(RetryInterval, stop.Token);
            }
            catch (OperationCanceledException)
                when (!cancellation.IsCancellationRequested && worker.Lost.IsCancellationRequested)
            {
                throw new IOException($"{worker.Name} was lost while it was to {awaited}: {await worker.Death}");
            }
    }

    /// <summary>Waits for the answer to one call. A worker that answers late is suspect until it does.</summary>
    private async Task<T> AnswerAsync<T>(
        Task<T> answer,
        TimeSpan timeout,
        string awaited,
        CancellationToken stop,
        CancellationToken cut
    )
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(stop, cut);
        try
        {
            // A prompt answer keeps the worker Ready.
            if (timeout > SuspectAfter && worker.State == WorkerState.Ready)
            {
                try
                {
                    return await answer.WaitAsync(SuspectAfter, either.Token);
                }
                catch (TimeoutException) when (!answer.IsCompleted)
                {
                    worker.Become(WorkerState.Suspect);
                }
                timeout -= SuspectAfter;
            }

            // A late one makes it Ready again.
            var late = await answer.WaitAsync(timeout, either.Token);
            if (worker.State == WorkerState.Suspect)
                worker.Become(WorkerState.Ready);

            return late;
        }
        catch (TimeoutException) when (!answer.IsCompleted)
        {
            throw new TimeoutException(
                $"Waited {timeout.TotalSeconds:0.#} s for {worker.Name} (process {worker.ProcessId}) to {awaited}"
            );
        }
    }
}
