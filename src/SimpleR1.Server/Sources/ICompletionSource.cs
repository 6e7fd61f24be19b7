using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Tokenization;

namespace SimpleR1.Server.Sources;

/// <summary>Something that completes prompts: an engine in this process (<see cref="LocalCompletions"/>), or a cluster of workers (<see cref="ClusterCompletions"/>).</summary>
public interface ICompletionSource
{
    /// <summary>The name that clients ask for.</summary>
    string Model { get; }
    ModelConfig Config { get; }
    Tokenizer Tokenizer { get; }

    /// <summary>Longest prompt and completion together, in tokens.</summary>
    int Context { get; }

    /// <summary>Sequences that it runs at once, with the workers that are there now; more are queued.</summary>
    int MaxSequences { get; }

    /// <summary>Of all its engines together.</summary>
    EngineStatistics Statistics { get; }

    /// <summary>Why nothing can be completed at the moment; null when it can.</summary>
    string? Problem { get; }

    /// <summary>A request's tokens as they are sampled, all of its samples mixed. Cancelling, or leaving the loop, aborts what still runs.</summary>
    /// <exception cref="ArgumentException">The request can't be served; says why.</exception>
    IAsyncEnumerable<TokenEvent> StreamAsync(GenerationRequest request, CancellationToken cancellation);
}
