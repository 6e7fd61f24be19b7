using Orleans.Concurrency;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Wire;

namespace SimpleR1.Cluster.Worker;

/// <summary>The thin edge between Orleans and <see cref="WorkerRuntime"/>, without a state of its own.</summary>
[PinToSilo, Reentrant, KeepAlive]
internal sealed class WorkerGrain(WorkerRuntime runtime) : Grain, IWorkerGrain
{
    public Task<MapReply> MapMemoryAsync(string memory) => runtime.MapMemoryAsync(memory);

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

    public Task AbandonAsync(string update) => runtime.AbandonAsync(update);

    public Task ReclaimAsync(ReclaimMessage message) => runtime.ReclaimAsync(message);

    public Task<CommitReply> HeldWeightsAsync() => runtime.HeldWeightsAsync();

    public Task PingAsync() => Task.CompletedTask;

    public Task<SubmitReply> SubmitAsync(SubmitMessage message) => Task.FromResult(runtime.Submit(message));

    public Task<ProgressMessage> NextAsync(string batch, int received, double waitSeconds) =>
        runtime.NextAsync(batch, received, TimeSpan.FromSeconds(waitSeconds));

    public Task DropBatchAsync(string batch)
    {
        runtime.DropBatch(batch);
        return Task.CompletedTask;
    }

    public Task CancelBatchAsync(string batch) => runtime.CancelBatchAsync(batch);

    public Task<string> StatisticsAsync() => Task.FromResult(WireFormat.ToJson(runtime.Statistics));
}
