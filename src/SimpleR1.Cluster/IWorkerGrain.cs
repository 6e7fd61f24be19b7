using SimpleR1.Cluster.Wire;

namespace SimpleR1.Cluster;

/// <summary>
/// The calls of a trainer to a worker process. The grain's key is the address of the worker's silo. The trainer may repeat
/// every call whose answer was lost: two calls have the effect of one.
/// </summary>
internal interface IWorkerGrain : IGrainWithStringKey
{
    /// <summary>Maps the trainer's memory, where the worker computes on the trainer's GPU.</summary>
    /// <param name="memory">JSON of a <see cref="TrainerMemory"/>.</param>
    Task<MapReply> MapMemoryAsync(string memory);

    /// <summary>Builds the engine, with empty weights.</summary>
    Task<SetupReply> SetupAsync(SetupMessage setup);

    /// <summary>
    /// Pauses the engine between two steps, until <see cref="CommitAsync"/>. Where the update overlaps with decoding, makes a
    /// second buffer ready instead.
    /// </summary>
    Task<PrepareReply> PrepareAsync(PrepareMessage message);

    /// <summary>Receives the weights by the first of the invitations (JSON) that this process can follow.</summary>
    /// <param name="attempt">A new attempt transfers again; the same one answers with the same receipt.</param>
    Task<ReceiptMessage> ReceiveAsync(string update, int attempt, string[] invitations, double timeoutSeconds);

    /// <summary>Cancels an attempt to receive, because another worker that it needs was lost.</summary>
    Task CancelTransferAsync(string update, int attempt);

    /// <summary>Declares the received weights to be <paramref name="version"/> and lets the engine run again.</summary>
    Task<CommitReply> CommitAsync(string update, int version);

    /// <summary>Ends the pause without weights that could be sampled from.</summary>
    Task AbandonAsync(string update);

    /// <summary>
    /// Ends the lease of the trainer's memory: afterwards the worker touches none of it, and samples from no weights, until
    /// the next commit.
    /// </summary>
    Task ReclaimAsync(ReclaimMessage message);

    /// <summary>Version and hash, computed now, of the weights that the engine computes with.</summary>
    Task<CommitReply> HeldWeightsAsync();

    /// <summary>Answers at once, to show that the worker lives.</summary>
    Task PingAsync();

    /// <summary>Hands the whole batch to the engine at once, so that every run computes the same sequences together.</summary>
    Task<SubmitReply> SubmitAsync(SubmitMessage message);

    /// <summary>The batch's next events. Waits until there is one, at most the given time.</summary>
    /// <param name="received">How many events of the batch have arrived. The worker forgets these, and sends later ones (again).</param>
    Task<ProgressMessage> NextAsync(string batch, int received, double waitSeconds);

    /// <summary>Stops the batch and forgets it.</summary>
    Task DropBatchAsync(string batch);

    /// <summary>Ends the batch: unfinished samples complete as aborted, with the tokens they have.</summary>
    Task CancelBatchAsync(string batch);

    /// <returns>JSON of <see cref="Inference.EngineStatistics"/>.</returns>
    Task<string> StatisticsAsync();
}
