using SimpleR1.Tensors.Cpu;

namespace SimpleR1.Inference;

/// <summary>A drawn token, its log-probability under the distribution it was drawn from, and the most probable ones when asked for.</summary>
internal readonly unsafe record struct Sampled(int Token, float LogProb, TokenLogProb[]? Top)
{
    /// <param name="position">In the output.</param>
    public static ArithmeticException Impossible(Sequence sequence, int position, bool masked) =>
        new(
            $"request '{sequence.Request.Id}' sample {sequence.Sample}, output position {position}: "
                + (
                    masked
                        ? "every token is masked; check logit bias and bad words"
                        : "the model's logits are not finite; check the weights (a diverged training step?)"
                )
        );

    /// <summary>The most probable tokens of a row whose logits are on the host, the best first, the smallest id among equals.</summary>
    public static TokenLogProb[] MostProbable(
        float* x,
        int vocabulary,
        int wanted,
        float threshold,
        Func<int, float> logProb
    )
    {
        float least = Math.Max(threshold, SamplingFilters.KthLargest(x, vocabulary, Math.Min(wanted, vocabulary)));
        var found = new List<TokenLogProb>();
        for (int t = 0; t < vocabulary; t++)
            if (x[t] >= least && x[t] > float.NegativeInfinity)
                found.Add(new(t, logProb(t)));
        return [.. found.OrderByDescending(p => p.LogProb).ThenBy(p => p.Token).Take(wanted)];
    }
}

/// <summary>
/// Where an engine's steps run: the forward pass over a batch, the KV cache and the draw. The engine decides what runs; a runner computes it, and may
/// hand back results later than it was asked, so that a GPU is never without work while the host thinks.
/// </summary>
internal interface IModelRunner : IDisposable
{
    /// <summary>KV blocks there is memory for.</summary>
    int Blocks { get; }

    /// <summary>How many launched steps may wait to be collected when another is launched.</summary>
    int Lookahead { get; }

    /// <summary>What it took and has, for people; null where there is nothing to say.</summary>
    string? Description { get; }

    /// <summary>Seconds in which a GPU computed, over all collected steps.</summary>
    double GpuSeconds { get; }

    /// <summary>Seconds in which the host waited for a GPU.</summary>
    double WaitSeconds { get; }

    /// <summary>Starts a step: each sequence's next Count tokens from Computed on, then the draw of the next token of each of <paramref name="sampling"/>.</summary>
    /// <param name="sampling">Those of the batch whose tokens are all computed with this step, in the batch's order.</param>
    void Launch(IReadOnlyList<(Sequence Sequence, int Count)> batch, IReadOnlyList<Sequence> sampling);

    /// <summary>Waits for the oldest step that was launched and not collected. The i-th result is of the i-th sequence of its sampling.</summary>
    /// <exception cref="ArithmeticException">A logit is not finite, or all tokens of a row are masked; names the request.</exception>
    ReadOnlySpan<Sampled> Collect();

    /// <summary>A step after this sees weights that were written from the host's side before it.</summary>
    void Synchronize();
}
