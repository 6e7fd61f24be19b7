using SimpleR1.Inference.Scheduling;
using SimpleR1.Tensors.Cpu;

namespace SimpleR1.Inference;

/// <summary>
/// A drawn token, its log-probability under the distribution it was drawn from, and the most probable tokens if the
/// request asks for them.
/// </summary>
internal readonly unsafe record struct Sampled(int Token, float LogProb, TokenLogProb[]? Top)
{
    /// <summary>The error of a row that no token can be drawn from.</summary>
    /// <param name="position">Position in the output.</param>
    public static ArithmeticException Impossible(Sequence sequence, int position, bool masked)
    {
        string reason = masked
            ? "every token is masked; check logit bias and bad words"
            : "the model's logits are not finite; check the weights (a diverged training step?)";
        return new($"request '{sequence.Request.Id}' sample {sequence.Sample}, output position {position}: {reason}");
    }

    /// <summary>
    /// The most probable tokens of a row whose logits are on the host, the best first, the smallest id among equals.
    /// </summary>
    /// <param name="x">[vocabulary] logits</param>
    /// <param name="threshold">Tokens with smaller logits were filtered.</param>
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
        for (int token = 0; token < vocabulary; token++)
            if (x[token] >= least && x[token] > float.NegativeInfinity)
                found.Add(new(token, logProb(token)));

        return Ordered(found)[..Math.Min(wanted, found.Count)];
    }

    /// <summary>The best first, the smallest id among equals.</summary>
    public static TokenLogProb[] Ordered(IEnumerable<TokenLogProb> tokens) =>
        [.. tokens.OrderByDescending(p => p.LogProb).ThenBy(p => p.Token)];
}
