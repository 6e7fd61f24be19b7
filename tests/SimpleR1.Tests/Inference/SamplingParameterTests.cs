using SimpleR1.Inference;
using SimpleR1.Tensors.Cpu;
using Xunit;

namespace SimpleR1.Tests.Inference;

/// <summary>
/// Each sampling parameter through the engine, against distributions computed here from the training path's logits.
/// </summary>
public sealed class SamplingParameterTests
{
    private const int Draws = 100_000;
    private static readonly int[] Prompt = TestEngine.Prompt(16);
    private static readonly SamplingParameters One = new() { MaxTokens = 1, IgnoreEos = true };

    public static readonly TheoryData<double, int, double, double> Filters = new()
    {
        { 1, 0, 1, 0 },
        { 0.6, 0, 1, 0 },
        { 2.5, 0, 1, 0 },
        { 1.5, 7, 1, 0 },
        { 1.5, 0, 0.8, 0 },
        { 1.5, 0, 1, 0.2 },
        { 1.5, 20, 0.9, 0.1 },
    };

    [Theory, MemberData(nameof(Filters))]
    public void Draws_follow_the_exact_distribution(double temperature, int topK, double topP, double minP)
    {
        using var test = new TestEngine(new() { MaxSequences = 512, PrefixCaching = false });
        double[] logits = TestEngine.Logits(test, Prompt)[^1];
        double[] expected = Distribution(logits, temperature, topK, topP, minP);
        var sampling = One with { Temperature = temperature, TopK = topK, TopP = topP, MinP = minP, Samples = 2_000 };
        AssertFits(expected, CountDraws(logits, sampling));

        var completions = test.Run(new GenerationRequest("r", Prompt, sampling));
        AssertFits(
            expected,
            [.. Enumerable.Range(0, expected.Length).Select(t => completions.LongCount(c => c.Tokens[0] == t))]
        );
        foreach (var c in completions)
            Assert.Equal(Math.Log(expected[c.Tokens[0]]), c.LogProbs[0], 1e-5);
    }

    /// <summary>
    /// Counts of the tokens of 100,000 draws, straight from the sampler's kernels: a forward pass for each would test
    /// nothing more.
    /// </summary>
    private static unsafe long[] CountDraws(double[] logits, SamplingParameters s)
    {
        var counts = new long[logits.Length];
        float[] values = [.. logits.Select(l => (float)l)];
        int count = values.Length;
        fixed (float* x = values)
        {
            var (max, top) = Sampling.Max(x, count);
            float scale = (float)(1 / s.Temperature);
            float threshold = SamplingFilters.Threshold(x, count, new(max, scale, s.TopK, s.TopP, s.MinP));
            for (int i = 0; i < Draws; i++)
            {
                ulong seed = Sampling.StreamSeed((ulong)(i / 4), i % 4);
                counts[Sampling.Draw(x, count, top, new(max, scale, threshold), new(seed, (uint)(i % 3))).Token]++;
            }
        }

        return counts;
    }

    /// <summary>
    /// χ² of the counts is at most 5 standard deviations above its mean; no token is drawn that may not be.
    /// </summary>
    private static void AssertFits(double[] expected, long[] counts)
    {
        double chi = 0;
        double draws = counts.Sum();
        double rareExpected = 0;
        double rareFound = 0;
        int cells = 0;
        for (int t = 0; t < expected.Length; t++)
        {
            if (expected[t] == 0)
                Assert.True(counts[t] == 0, $"token {t} is filtered out and was drawn {counts[t]} times");
            double mean = expected[t] * draws;
            if (mean < 5)
            {
                rareExpected += mean;
                rareFound += counts[t];
                continue;
            }
            chi += (counts[t] - mean) * (counts[t] - mean) / mean;
            cells++;
        }
        if (rareExpected > 5)
        {
            chi += (rareFound - rareExpected) * (rareFound - rareExpected) / rareExpected;
            cells++;
        }
        int freedom = Math.Max(1, cells - 1);
        Assert.True(
            chi < freedom + 5 * Math.Sqrt(2 * freedom) + 5,
            $"chi-square {chi:F1} at {freedom} degrees of freedom"
        );
    }

    /// <summary>By sorting: top-k, then top-p, then min-p.</summary>
    private static double[] Distribution(double[] logits, double temperature, int topK, double topP, double minP)
    {
        double[] p = [.. TestEngine.LogSoftmax(logits, temperature).Select(Math.Exp)];
        int[] order = [.. Enumerable.Range(0, p.Length).OrderByDescending(t => p[t])];
        var kept = order.Take(topK == 0 ? p.Length : topK).ToList();
        double total = kept.Sum(t => p[t]);
        double mass = 0;
        if (topP < 1)
            kept = [.. kept.TakeWhile(t => (mass += p[t]) - p[t] < topP * total)];
        kept.RemoveAll(t => p[t] < minP * p[order[0]]);
        total = kept.Sum(t => p[t]);
        return [.. Enumerable.Range(0, p.Length).Select(t => kept.Contains(t) ? p[t] / total : 0)];
    }

    private static Completion Run(SamplingParameters sampling) => Run(sampling, out _);

    private static Completion Run(SamplingParameters sampling, out double[][] logits)
    {
        using var test = new TestEngine();
        var completion = test.Run(new GenerationRequest("r", Prompt, sampling))[0];
        logits = TestEngine.Logits(test, [.. Prompt, .. completion.Tokens])[(Prompt.Length - 1)..^1];
        return completion;
    }

    [Fact]
    public void Greedy_takes_the_largest_logit_with_its_plain_log_prob()
    {
        var completion = Run(One with { MaxTokens = 12, Temperature = 0, TopK = 1, TopP = 0.1 }, out double[][] logits);
        for (int i = 0; i < 12; i++)
        {
            Assert.Equal(Array.IndexOf(logits[i], logits[i].Max()), completion.Tokens[i]);
            Assert.Equal(TestEngine.LogSoftmax(logits[i], 1).Max(), completion.LogProbs[i], 1e-5);
        }
    }

    [Fact]
    public void Repetition_presence_and_frequency_penalties_change_logits_as_in_vLLM()
    {
        var sampling = One with
        {
            MaxTokens = 40,
            Temperature = 0.8,
            RepetitionPenalty = 1.4,
            PresencePenalty = 0.3,
            FrequencyPenalty = 0.2,
            Seed = 3,
        };
        var completion = Run(sampling, out double[][] logits);
        for (int i = 0; i < 40; i++)
        {
            int[] output = completion.Tokens[..i];
            foreach (int t in Prompt.Concat(output).Distinct())
                logits[i][t] = logits[i][t] > 0 ? logits[i][t] / 1.4 : logits[i][t] * 1.4;
            foreach (int t in output.Distinct())
                logits[i][t] -= 0.2 * output.Count(o => o == t) + 0.3;
            Assert.Equal(TestEngine.LogSoftmax(logits[i], 0.8)[completion.Tokens[i]], completion.LogProbs[i], 1e-5);
        }
        Assert.True(completion.Tokens.Distinct().Count() < 40, "some token must repeat for the frequency to count");
    }

    [Fact]
    public void Logit_bias_is_added_and_minus_infinity_forbids()
    {
        var completion = Run(
            One with
            {
                MaxTokens = 30,
                LogitBias = new Dictionary<int, float> { [7] = 6, [8] = float.NegativeInfinity },
            },
            out double[][] logits
        );
        Assert.Contains(7, completion.Tokens);
        Assert.DoesNotContain(8, completion.Tokens);
        for (int i = 0; i < 30; i++)
        {
            logits[i][7] += 6;
            logits[i][8] = double.NegativeInfinity;
            Assert.Equal(TestEngine.LogSoftmax(logits[i], 1)[completion.Tokens[i]], completion.LogProbs[i], 1e-5);
        }
    }

    [Fact]
    public void Bad_words_end_nowhere_in_the_output()
    {
        var sampling = One with { MaxTokens = 60, Temperature = 0, MinTokens = 0 };
        int[] free = Run(sampling).Tokens;
        int[] pair = free[10..12];
        int[] single = [free[30]];
        int[] bound = Run(sampling with { BadWords = [pair, single] }).Tokens;
        Assert.NotEqual(-1, free.AsSpan().IndexOf(pair));
        Assert.Equal(-1, bound.AsSpan().IndexOf(pair));
        Assert.DoesNotContain(single[0], bound);
    }

    [Fact]
    public void Minimum_length_masks_all_ending_ids_until_then()
    {
        var likely = new Dictionary<int, float> { [1] = 30, [9] = 29 }; // end of sequence is 1
        Assert.Single(Run(One with { MaxTokens = 20, IgnoreEos = false, LogitBias = likely }).Tokens);
        var late = Run(
            One with
            {
                MaxTokens = 20,
                IgnoreEos = false,
                LogitBias = likely,
                MinTokens = 8,
                StopTokenIds = [9],
            }
        );
        Assert.Equal((FinishReason.Stop, 9), (late.FinishReason, late.Tokens.Length)); // 8 others, then an ending id
        Assert.DoesNotContain(late.Tokens[..8], t => t is 1 or 9);
        var ignored = Run(
            One with
            {
                MaxTokens = 20,
                LogitBias = new Dictionary<int, float> { [1] = 100 },
                MinTokens = 8,
            }
        );
        Assert.Equal((FinishReason.Length, 20), (ignored.FinishReason, ignored.Tokens.Count(t => t == 1)));
    }

    [Fact]
    public void Most_probable_tokens_come_in_order_with_the_sampled_distributions_log_probs()
    {
        var completion = Run(
            One with
            {
                MaxTokens = 5,
                Temperature = 1.3,
                TopK = 4,
                TopLogProbs = 6,
            },
            out double[][] logits
        );
        for (int i = 0; i < 5; i++)
        {
            double[] expected = Distribution(logits[i], 1.3, 4, 1, 0);
            var top = completion.TopLogProbs![i];
            Assert.Equal(
                [
                    .. Enumerable
                        .Range(0, expected.Length)
                        .Where(t => expected[t] > 0)
                        .OrderByDescending(t => expected[t]),
                ],
                top.Select(t => t.Token)
            );
            foreach (var (token, logProb) in top)
                Assert.Equal(Math.Log(expected[token]), logProb, 1e-5);
            Assert.Contains(new TokenLogProb(completion.Tokens[i], completion.LogProbs[i]), top);
        }
    }

    [Fact]
    public void Masking_every_token_is_an_error_that_says_so()
    {
        using var test = new TestEngine();
        var bias = Enumerable.Range(0, 61).ToDictionary(t => t, _ => float.NegativeInfinity);
        test.Engine.Submit([new("r", Prompt, One with { LogitBias = bias })]);
        Assert.Contains("every token is masked", Assert.Throws<ArithmeticException>(() => test.Engine.Step()).Message);
    }

    [Fact]
    public void Seeds_and_samples_have_separate_streams_that_repeat()
    {
        var sampling = One with { MaxTokens = 25, Temperature = 1.5 };
        int[] first = Run(sampling with { Seed = 1 }).Tokens;
        Assert.Equal(first, Run(sampling with { Seed = 1 }).Tokens);
        Assert.NotEqual(first, Run(sampling with { Seed = 2 }).Tokens);
        using var test = new TestEngine();
        var samples = test.Run(new GenerationRequest("r", Prompt, sampling with { Seed = 1, Samples = 4 }));
        Assert.Equal(4, samples.Select(s => string.Join(' ', s.Tokens)).Distinct().Count());
        Assert.Equal(first, samples[0].Tokens);
    }

    /// <summary>A trainer computes log-probs of the whole distribution at the temperature: nothing else may change it.</summary>
    [Fact]
    public void Change_names_what_makes_the_distribution_another()
    {
        var plain = new SamplingParameters
        {
            MaxTokens = 4,
            Temperature = 0.7,
            StopStrings = ["x"],
            Seed = 3,
        };
        Assert.Null(plain.Change);
        Assert.Null((plain with { StopTokenIds = [1], IgnoreEos = true, TopLogProbs = 5, Samples = 8 }).Change);
        SamplingParameters[] changed =
        [
            plain with
            {
                Temperature = 0,
            },
            plain with
            {
                TopP = 0.9,
            },
            plain with
            {
                TopK = 4,
            },
            plain with
            {
                MinP = 0.1,
            },
            plain with
            {
                RepetitionPenalty = 1.1,
            },
            plain with
            {
                PresencePenalty = 0.1,
            },
            plain with
            {
                FrequencyPenalty = 0.1,
            },
            plain with
            {
                LogitBias = new Dictionary<int, float> { [1] = 1 },
            },
            plain with
            {
                BadWords =
                [
                    [1],
                ],
            },
            plain with
            {
                MinTokens = 1,
            },
        ];
        Assert.All(changed, c => Assert.NotNull(c.Change));
    }
}
