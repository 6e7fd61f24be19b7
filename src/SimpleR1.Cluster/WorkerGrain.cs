using Orleans.Concurrency;
using Orleans.Placement;
using Orleans.Runtime.Placement;

namespace SimpleR1.Cluster;

/// <summary>A worker process as the head calls it. The grain's key is the address of the worker's silo.</summary>
internal interface IWorkerGrain : IGrainWithStringKey
{
    /// <summary>Builds the engine, with empty weights.</summary>
    /// <returns>Null, or why it couldn't.</returns>
    Task<string?> SetupAsync(SetupMessage setup);

    /// <summary>Pauses the engine between two steps, until <see cref="CommitAsync"/>.</summary>
    Task PauseAsync(double timeoutSeconds);
    /// <summary>Receives into the live weights by the first of the invitations (JSON) that this process can follow.</summary>
    Task<ReceiptMessage> ReceiveAsync(string[] invitations, double timeoutSeconds);
    /// <summary>Declares the received weights to be <paramref name="version"/> and lets the engine run again.</summary>
    Task CommitAsync(int version);

    /// <summary>Hands the whole batch to the engine at once, so that what runs beside what is the same in every run.</summary>
    Task SubmitAsync(string batch, RequestMessage[] requests);
    /// <summary>What has finished; waits until something has, at most the given time.</summary>
    Task<CompletionsMessage> NextAsync(string batch, double waitSeconds);
    Task AbortAsync(string batch);
}

/// <summary>The thin edge between Orleans and <see cref="WorkerRuntime"/>: holds nothing itself.</summary>
[PinToSilo, Reentrant, KeepAlive]
internal sealed class WorkerGrain(WorkerRuntime runtime) : Grain, IWorkerGrain
{
    public Task<string?> SetupAsync(SetupMessage setup) => runtime.SetupAsync(setup);
    public Task PauseAsync(double timeoutSeconds) => runtime.PauseAsync(TimeSpan.FromSeconds(timeoutSeconds));
    public Task<ReceiptMessage> ReceiveAsync(string[] invitations, double timeoutSeconds) => runtime.ReceiveAsync(invitations, TimeSpan.FromSeconds(timeoutSeconds));
    public Task CommitAsync(int version) => runtime.CommitAsync(version);
    public Task SubmitAsync(string batch, RequestMessage[] requests) => runtime.SubmitAsync(batch, requests);
    public Task<CompletionsMessage> NextAsync(string batch, double waitSeconds) => runtime.NextAsync(batch, TimeSpan.FromSeconds(waitSeconds));
    public Task AbortAsync(string batch) => runtime.AbortAsync(batch);
}

/// <summary>Places a grain on the silo that its key names, and nowhere else.</summary>
[AttributeUsage(AttributeTargets.Class)]
internal sealed class PinToSiloAttribute() : PlacementAttribute(new PinToSilo());

[Serializable, GenerateSerializer, Immutable]
internal sealed class PinToSilo : PlacementStrategy;

internal sealed class PinToSiloDirector : IPlacementDirector
{
    public Task<SiloAddress> OnAddActivation(PlacementStrategy strategy, PlacementTarget target, IPlacementContext context)
    {
        var silo = SiloAddress.FromParsableString(target.GrainIdentity.Key.ToString()!);
        return context.GetCompatibleSilos(target).Contains(silo) ? Task.FromResult(silo)
            : throw new OrleansException($"The worker at {silo} is no member of the cluster");
    }
}
