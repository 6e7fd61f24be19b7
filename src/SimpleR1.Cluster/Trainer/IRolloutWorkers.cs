using SimpleR1.Inference;
using SimpleR1.Models;

namespace SimpleR1.Cluster.Trainer;

/// <summary>What a training loop needs of workers: those of a cluster (<see cref="WorkerPool"/>), or servers that speak vLLM's API (<c>VllmWorkers</c>).</summary>
public interface IRolloutWorkers
{
    /// <summary>Completes every request and yields each sample once, as it finishes.</summary>
    /// <exception cref="ArgumentException">A request can't be served.</exception>
    IAsyncEnumerable<Completion> GenerateAsync(
        IReadOnlyList<GenerationRequest> requests,
        CancellationToken cancellation = default
    );

    /// <summary>Sends the weights to every worker; what is sampled after this is sampled from them.</summary>
    /// <param name="source">Must not change before this returns.</param>
    /// <param name="version">Greater than the last.</param>
    Task<SyncReport> PushWeightsAsync(FlatWeights source, int version, CancellationToken cancellation = default);
}
