using Orleans.Concurrency;
using Orleans.Placement;
using Orleans.Runtime.Placement;

namespace SimpleR1.Cluster.Worker;

/// <summary>
/// A worker process as the trainer calls it. The grain's key is the address of the worker's silo. Every call may be made again when its answer
/// was lost: it has the effect of one.
/// </summary>
internal interface IWorkerGrain : IGrainWithStringKey
{
    /// <summary>Builds the engine, with empty weights.</summary>
    Task<SetupReply> SetupAsync(SetupMessage setup);

    /// <summary>Pauses the engine between two steps, until <see cref="CommitAsync"/>; or makes a second buffer ready, where the update overlaps with decoding.</summary>
    Task<PrepareReply> PrepareAsync(PrepareMessage message);

    /// <summary>Receives the weights by the first of the invitations (JSON) that this process can follow.</summary>
    /// <param name="attempt">Another attempt transfers again; the same one answers with the same receipt.</param>
    Task<ReceiptMessage> ReceiveAsync(string update, int attempt, string[] invitations, double timeoutSeconds);

    /// <summary>Stops an attempt to receive, because another worker that it needs was lost.</summary>
    Task CancelTransferAsync(string update, int attempt);

    /// <summary>Declares the received weights to be <paramref name="version"/> and lets the engine run again.</summary>
    Task<CommitReply> CommitAsync(string update, int version);

    /// <summary>Ends the pause without weights that could be sampled from.</summary>
    Task AbandonAsync(string update);

    /// <summary>Version and hash, computed now, of what the engine computes with.</summary>
    Task<CommitReply> HeldWeightsAsync();

    /// <summary>Whether it answers at all.</summary>
    Task PingAsync();

    /// <summary>Hands the whole batch to the engine at once, so that what runs beside what is the same in every run.</summary>
    Task<SubmitReply> SubmitAsync(SubmitMessage message);

    /// <summary>What came of the batch; waits until something has, at most the given time.</summary>
    /// <param name="received">How many events of the batch have arrived: these are forgotten here, later ones are sent (again).</param>
    Task<ProgressMessage> NextAsync(string batch, int received, double waitSeconds);
    Task AbortAsync(string batch);

    /// <summary>What still runs of the batch completes as aborted, with the tokens it has.</summary>
    Task BreakOffAsync(string batch);

    /// <returns>JSON of <see cref="Inference.EngineStatistics"/>.</returns>
    Task<string> StatisticsAsync();
}

/// <summary>The thin edge between Orleans and <see cref="WorkerRuntime"/>: holds nothing itself.</summary>
[PinToSilo, Reentrant, KeepAlive]
internal sealed class WorkerGrain(WorkerRuntime runtime) : Grain, IWorkerGrain
{
    public Task<SetupReply> SetupAsync(SetupMessage setup) => runtime.SetupAsync(setup);

    public Task<PrepareReply> PrepareAsync(PrepareMessage message) => runtime.PrepareAsync(message);

    public Task<ReceiptMessage> ReceiveAsync(string update, int attempt, string[] invitations, double timeoutSeconds) =>
        runtime.ReceiveAsync(update, attempt, invitations, TimeSpan.FromSeconds(timeoutSeconds));

    public Task CancelTransferAsync(string update, int attempt)
    {
        runtime.CancelTransfer(update, attempt);
        return Task.CompletedTask;
    }

    public Task<CommitReply> CommitAsync(string update, int version) => runtime.CommitAsync(update, version);

    public Task<CommitReply> HeldWeightsAsync() => runtime.HeldWeightsAsync();

    public Task PingAsync() => Task.CompletedTask;

    public Task AbandonAsync(string update) => runtime.AbandonAsync(update);

    public Task<SubmitReply> SubmitAsync(SubmitMessage message) => Task.FromResult(runtime.Submit(message));

    public Task<ProgressMessage> NextAsync(string batch, int received, double waitSeconds) =>
        runtime.NextAsync(batch, received, TimeSpan.FromSeconds(waitSeconds));

    public Task AbortAsync(string batch)
    {
        runtime.Abort(batch);
        return Task.CompletedTask;
    }

    public Task BreakOffAsync(string batch) => runtime.BreakOffAsync(batch);

    public Task<string> StatisticsAsync() => Task.FromResult(Wire.ToJson(runtime.Statistics));
}

/// <summary>Places a grain on the silo that its key names, and nowhere else.</summary>
[AttributeUsage(AttributeTargets.Class)]
internal sealed class PinToSiloAttribute() : PlacementAttribute(new PinToSilo());

[Serializable, GenerateSerializer, Immutable]
internal sealed class PinToSilo : PlacementStrategy;

internal sealed class PinToSiloDirector : IPlacementDirector
{
    public Task<SiloAddress> OnAddActivation(
        PlacementStrategy strategy,
        PlacementTarget target,
        IPlacementContext context
    )
    {
        var silo = SiloAddress.FromParsableString(target.GrainIdentity.Key.ToString()!);
        return context.GetCompatibleSilos(target).Contains(silo)
            ? Task.FromResult(silo)
            : throw new OrleansException($"The worker at {silo} is no member of the cluster");
    }
}
