using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Tokenization;

namespace SimpleR1.Server.Sources;

/// <summary>
/// Completes prompts: by an engine in this process (<see cref="LocalCompletions"/>), or by a cluster of workers
/// (<see cref="ClusterCompletions"/>).
/// </summary>
public interface ICompletionSource
{
    /// <summary>The name that clients ask for.</summary>
    string Model { get; }
    ModelConfig Config { get; }
    Tokenizer Tokenizer { get; }

    /// <summary>Longest prompt and completion together, in tokens.</summary>
    int Context { get; }

    /// <summary>Sequences that run at once, with the workers that are present now; more are queued.</summary>
    int MaxSequences { get; }

    /// <summary>The statistics of all engines together.</summary>
    EngineStatistics Statistics { get; }

    /// <summary>Why nothing can be completed at the moment; null if prompts can be completed.</summary>
    string? Problem { get; }

    /// <summary>
    /// A request's tokens as they are sampled, those of all its samples interleaved. Cancelling, or leaving the loop,
    /// aborts what still runs.
    /// </summary>
    /// <exception cref="ArgumentException">The request cannot be served.</exception>
    /// <exception cref="InvalidOperationException">The source has a <see cref="Problem"/>.</exception>
    IAsyncEnumerable<TokenEvent> StreamAsync(GenerationRequest request, CancellationToken cancellation);
}
