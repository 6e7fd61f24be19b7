using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cpu;

namespace SimpleR1.Inference.Cpu;

/// <summary>
/// From logits to tokens: logit bias, bad words, minimum length, penalties, temperature, top-k, top-p, min-p, then the draw.
/// Greedy sampling (temperature 0) takes the largest logit, the smallest id among equals; its log-prob is that of temperature 1 without filters.
/// </summary>
internal static unsafe class CpuSampler
{
    /// <param name="logits">[rows, vocabulary]; changed</param>
    /// <param name="sequences">Row i is the next token of sequence <paramref name="from"/> + i, and result <paramref name="from"/> + i.</param>
    /// <exception cref="ArithmeticException">A logit is not finite, or all tokens of a row are masked; names the request.</exception>
    public static void Sample(
        float* logits,
        int vocabulary,
        ModelConfig config,
        IReadOnlyList<Sequence> sequences,
        int from,
        int rows,
        Sampled[] results
    ) =>
        CpuParallel.For(
            rows,
            row =>
                results[from + row] = SampleRow(
                    logits + (long)row * vocabulary,
                    vocabulary,
                    config,
                    sequences[from + row]
                )
        );

    private static Sampled SampleRow(float* x, int vocabulary, ModelConfig config, Sequence sequence)
    {
        var s = sequence.Request.Sampling;
        Adjust(x, config, sequence, s);
        var (max, top) = Sampling.Max(x, vocabulary);
        if (!float.IsFinite(max))
            throw Sampled.Impossible(sequence, sequence.OutputLength, masked: !float.IsNaN(max));
        float scale = s.Temperature == 0 ? 1 : (float)(1 / s.Temperature),
            threshold = float.NegativeInfinity;
        int token = top;
        double sum;
        if (s.Temperature == 0)
            sum = Sampling.SumExp(x, vocabulary, max, scale, threshold);
        else
        {
            threshold = SamplingFilters.Threshold(x, vocabulary, max, scale, s.TopK, s.TopP, s.MinP);
            (token, sum) = Sampling.Draw(
                x,
                vocabulary,
                max,
                top,
                scale,
                threshold,
                sequence.Seed,
                (uint)sequence.OutputLength
            );
        }
        double logSum = Math.Log(sum);
        float LogProb(int t) => (float)(((double)x[t] - max) * scale - logSum);
        return new(
            token,
            LogProb(token),
            s.TopLogProbs == 0 ? null : Sampled.MostProbable(x, vocabulary, s.TopLogProbs, threshold, LogProb)
        );
    }

    /// <summary>Everything that changes single logits. Penalties as in vLLM: repetition over prompt and output, presence and frequency over the output.</summary>
    private static void Adjust(float* x, ModelConfig config, Sequence sequence, SamplingParameters s)
    {
        foreach (var (token, bias) in s.LogitBias)
            x[token] += bias;
        foreach (int[] word in s.BadWords)
            if (sequence.Output.EndsWith(word.AsSpan(..^1)))
                x[word[^1]] = float.NegativeInfinity;
        if (sequence.OutputLength < s.MinTokens)
        {
            foreach (int stop in s.StopTokenIds)
                x[stop] = float.NegativeInfinity;
            if (!s.IgnoreEos)
                foreach (int eos in config.EosTokenIds)
                    x[eos] = float.NegativeInfinity;
        }
        if (sequence.OutputCounts is not { } counts)
            return;
        void Repeat(int token) =>
            x[token] = (float)(x[token] > 0 ? x[token] / s.RepetitionPenalty : x[token] * s.RepetitionPenalty);
        if (sequence.PromptSet is { } prompt)
            foreach (int token in prompt)
                if (!counts.ContainsKey(token))
                    Repeat(token);
        foreach (var (token, count) in counts)
        {
            if (s.RepetitionPenalty != 1)
                Repeat(token);
            x[token] -= (float)(s.FrequencyPenalty * count + s.PresencePenalty);
        }
    }
}
