using SimpleR1.Inference;
using SimpleR1.Models;

namespace SimpleR1.Cluster.Trainer;

/// <summary>
/// A training loop's view of its workers: those of a cluster (<see cref="WorkerPool"/>), or servers that speak vLLM's API
/// (<c>VllmWorkers</c>).
/// </summary>
public interface IRolloutWorkers
{
    /// <summary>Completes every request and yields each sample once, as it finishes.</summary>
    /// <param name="enough">
    /// When cancelled, unfinished samples come as aborted, with the tokens they have. As a <see cref="PartialSample"/> each can
    /// continue later. Their texts may be empty.
    /// </param>
    /// <exception cref="ArgumentException">A request can't be served.</exception>
    /// <exception cref="NotSupportedException">
    /// <paramref name="enough"/> can be cancelled, and these workers can't return unfinished samples.
    /// </exception>
    IAsyncEnumerable<Completion> GenerateAsync(
        IReadOnlyList<GenerationRequest> requests,
        CancellationToken enough = default,
        CancellationToken cancellation = default
    );

    /// <summary>The engines' statistics by process; nothing of workers that report none.</summary>
    Task<IReadOnlyDictionary<string, EngineStatistics>> StatisticsAsync(CancellationToken cancellation = default) =>
        Task.FromResult<IReadOnlyDictionary<string, EngineStatistics>>(new Dictionary<string, EngineStatistics>());

    /// <summary>Sends the weights to every worker; later samples are drawn from them.</summary>
    /// <param name="source">Must not change before this returns.</param>
    /// <param name="version">Greater than the last.</param>
    Task<SyncReport> PushWeightsAsync(FlatWeights source, int version, CancellationToken cancellation = default);

    /// <summary>
    /// Takes back what is lent to workers on the trainer's GPU, before the trainer computes or changes the weights. They wait
    /// for the next push. Does nothing where nothing is lent.
    /// </summary>
    Task ReclaimMemoryAsync(CancellationToken cancellation = default) => Task.CompletedTask;
}
