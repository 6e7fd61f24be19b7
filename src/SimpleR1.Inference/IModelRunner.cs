using SimpleR1.Inference.Scheduling;

namespace SimpleR1.Inference;

/// <summary>
/// Where an engine's steps run: the forward pass over a batch, the KV cache and the draw. The engine decides what runs;
/// a runner computes it. A runner may hand back results with a delay, so that a GPU is never without work while the
/// host thinks.
/// </summary>
internal interface IModelRunner : IDisposable
{
    /// <summary>KV blocks that there is memory for.</summary>
    int Blocks { get; }

    /// <summary>How many launched steps may wait to be collected when another is launched.</summary>
    int Lookahead { get; }

    /// <summary>The device and the memory that the runner took, for people; null on a CPU.</summary>
    string? Description { get; }

    /// <summary>Seconds in which a GPU computed, over all collected steps.</summary>
    double GpuSeconds { get; }

    /// <summary>Seconds in which the host waited for a GPU.</summary>
    double WaitSeconds { get; }

    /// <summary>
    /// Starts a step: each sequence's next Count tokens from Computed on, then the draw of the next token of each of
    /// <paramref name="sampling"/>.
    /// </summary>
    /// <param name="sampling">The sequences whose tokens are all computed with this step, in the batch's order.</param>
    void Launch(IReadOnlyList<(Sequence Sequence, int Count)> batch, IReadOnlyList<Sequence> sampling);

    /// <summary>Waits for the oldest step that was launched and not collected.</summary>
    /// <returns>Results in the order of that step's sampled sequences.</returns>
    /// <exception cref="ArithmeticException">
    /// A logit is not finite, or all tokens of a row are masked; the message names the request.
    /// </exception>
    ReadOnlySpan<Sampled> Collect();

    /// <summary>Makes weights that the host has written before visible to the steps after it.</summary>
    void Synchronize();
}
