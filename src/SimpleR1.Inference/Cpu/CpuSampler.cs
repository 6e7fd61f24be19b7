using SimpleR1.Inference.Scheduling;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cpu;

namespace SimpleR1.Inference.Cpu;

/// <summary>
/// From logits to tokens: logit bias, bad words, minimum length, penalties, temperature, top-k, top-p, min-p, then the
/// draw. Greedy sampling (temperature 0) takes the largest logit, the smallest id among equals; its log-prob is that of
/// temperature 1 without filters.
/// </summary>
internal sealed unsafe class CpuSampler(ModelConfig config)
{
    /// <summary>Draws a token from each row of logits.</summary>
    /// <param name="logits">[results, vocabulary]; changed</param>
    /// <param name="sequences">Row i draws the next token of sequence <paramref name="first"/> + i.</param>
    /// <exception cref="ArithmeticException">
    /// A logit is not finite, or all tokens of a row are masked; the message names the request.
    /// </exception>
    public void Sample(float* logits, IReadOnlyList<Sequence> sequences, int first, Memory<Sampled> results) =>
        CpuParallel.For(
            results.Length,
            row =>
            {
                float* x = logits + (long)row * config.VocabularySize;
                results.Span[row] = SampleRow(x, sequences[first + row]);
            }
        );

    private Sampled SampleRow(float* x, Sequence sequence)
    {
        var s = sequence.Request.Sampling;
        int vocabulary = config.VocabularySize;
        AddBiasAndMasks(x, sequence, s);
        AddPenalties(x, sequence, s);

        var (max, top) = Sampling.Max(x, vocabulary);
        if (!float.IsFinite(max))
            throw Sampled.Impossible(sequence, sequence.OutputLength, masked: !float.IsNaN(max));

        float scale = s.Temperature == 0 ? 1 : (float)(1 / s.Temperature);
        float threshold = float.NegativeInfinity;
        int token = top;
        double sum;
        if (s.Temperature == 0)
            sum = Sampling.SumExp(x, vocabulary, max, scale, threshold);
        else
        {
            threshold = SamplingFilters.Threshold(x, vocabulary, new(max, scale, s.TopK, s.TopP, s.MinP));
            uint position = (uint)sequence.OutputLength;
            (token, sum) = Sampling.Draw(x, vocabulary, top, new(max, scale, threshold), new(sequence.Seed, position));
        }

        double logSum = Math.Log(sum);
        var mostProbable =
            s.TopLogProbs == 0 ? null : Sampled.MostProbable(x, vocabulary, s.TopLogProbs, threshold, LogProb);
        return new(token, LogProb(token), mostProbable);

        float LogProb(int t) => (float)(((double)x[t] - max) * scale - logSum);
    }

    /// <summary>Logit bias, bad words, and ending ids before the minimum length.</summary>
    private void AddBiasAndMasks(float* x, Sequence sequence, SamplingParameters s)
    {
        foreach (var (token, bias) in s.LogitBias)
            x[token] += bias;
        foreach (int[] word in s.BadWords)
            if (sequence.Output.EndsWith(word.AsSpan(..^1)))
                x[word[^1]] = float.NegativeInfinity;

        if (sequence.OutputLength >= s.MinTokens)
            return;
        foreach (int stop in s.StopTokenIds)
            x[stop] = float.NegativeInfinity;
        if (!s.IgnoreEos)
            foreach (int eos in config.EosTokenIds)
                x[eos] = float.NegativeInfinity;
    }

    /// <summary>
    /// Penalties as in vLLM: repetition over prompt and output, presence and frequency over the output.
    /// </summary>
    private static void AddPenalties(float* x, Sequence sequence, SamplingParameters s)
    {
        if (sequence.OutputCounts is not { } counts)
            return;

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

        void Repeat(int token) =>
            x[token] = (float)(x[token] > 0 ? x[token] / s.RepetitionPenalty : x[token] * s.RepetitionPenalty);
    }
}
