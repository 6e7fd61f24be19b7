using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Training.Algorithms;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Rollouts;
using Xunit;

namespace SimpleR1.Tests.Training;

/// <summary>Samples whose advantages are all 0 add nothing to the gradient, so that they are not computed.</summary>
public sealed class ZeroAdvantageTests
{
    private static readonly PolicyGradientOptions Options = new() { Temperature = 0.9, MaxNewTokens = 50 };

    /// <summary>Groups of 3 samples; in those of <paramref name="uniform"/> all earn 0.2, whose mean has a rounding error.</summary>
    private static List<Rollout> Rollouts(params bool[] uniform)
    {
        var random = new Random(4);
        int[] Ids(int length) => [.. Enumerable.Range(0, length).Select(_ => random.Next(61))];
        var rollouts = new List<Rollout>();
        for (int i = 0; i < 3 * uniform.Length; i++)
        {
            int length = 2 + random.Next(20);
            rollouts.Add(
                new()
                {
                    Group = i / 3,
                    Sample = i % 3,
                    Question = "",
                    Gold = "",
                    Text = "",
                    Reward = uniform[i / 3] ? 0.2 : i % 3,
                    Rewards = new Dictionary<string, double>(),
                    FinishReason = FinishReason.Stop,
                    Segments =
                    [
                        Segment.Read(Ids(5)),
                        new(Ids(length), [.. Ids(length).Select(_ => -4f - random.NextSingle())], new int[length]),
                    ],
                }
            );
        }
        return rollouts;
    }

    private sealed record Outcome(IReadOnlyList<UpdateStatistics> Updates, float[] Gradient, float[] Weights)
    {
        public UpdateStatistics Last => Updates[^1];
    }

    private static Outcome Update(List<Rollout> rollouts, Algorithm algorithm, PolicyGradientOptions options)
    {
        var config = TinyModels.Config(ModelFamily.Qwen3);
        using var weights = TinyModels.Random(config);
        using var policy = new PolicyModel(new Decoder(weights), new Optimizer(weights, new()), new(60));
        var updates = new PolicyGradient(policy, algorithm, options, null).Update(rollouts, 0, 0.001);
        return new(updates, policy.Optimizer.Gradient.data<float>().ToArray(), weights.Flat.data<float>().ToArray());
    }

    private static void AssertClose(float[] expected, float[] found, double tolerance)
    {
        double norm = Math.Sqrt(expected.Sum(g => (double)g * g));
        double difference = Math.Sqrt(expected.Zip(found).Sum(p => Math.Pow(p.First - p.Second, 2)));
        Assert.True(norm > 0 && difference <= tolerance * norm, $"off by {difference / norm:E2} of the norm {norm:G3}");
    }

    [Theory]
    [InlineData(LossAverage.Token, false, 1, 1)]
    [InlineData(LossAverage.Sequence, true, 1, 1)]
    [InlineData(LossAverage.ConstantLength, false, 1, 1)]
    [InlineData(LossAverage.Token, false, 2, 2)]
    public void Update_is_the_same_without_them(LossAverage average, bool gspo, int epochs, int miniBatches)
    {
        var rollouts = Rollouts(true, false, true, false);
        var options = Options with { LossAverage = average, Epochs = epochs, MiniBatches = miniBatches };
        var algorithm = gspo ? Gspo.Create() : Grpo.Create(importanceCap: 2);

        var all = Update(rollouts, algorithm, options with { SkipZeroAdvantages = false });
        var taught = Update(rollouts, algorithm, options);

        AssertClose(all.Gradient, taught.Gradient, 1e-5);
        AssertClose(all.Weights, taught.Weights, 1e-5);
        Assert.Equal(epochs * miniBatches, taught.Updates.Count);
        foreach (var (expected, found) in all.Updates.Zip(taught.Updates))
        {
            Assert.Equal(expected.Loss, found.Loss, 1e-5);
            Assert.Equal(expected.Tokens, found.TokensAsked);
            Assert.InRange(found.Tokens, 1, expected.Tokens - 1);
        }
    }

    [Theory]
    [InlineData(LossAverage.Token)]
    [InlineData(LossAverage.Sequence)]
    [InlineData(LossAverage.ConstantLength)]
    public void Report_is_the_mean_over_the_computed_samples(LossAverage average)
    {
        var rollouts = Rollouts(true, false, true, false);
        var options = Options with { LossAverage = average };
        var algorithm = Grpo.Create() with
        {
            Loss = t => ((t.LogProbs * t.Advantages * t.Weights).sum(), new() { ["weight"] = t.Weights.sum() }),
        };
        var all = Update(rollouts, algorithm, options with { SkipZeroAdvantages = false });
        var taught = Update(rollouts, algorithm, options);
        Assert.Equal(all.Last.Report["weight"], taught.Last.Report["weight"], 1e-6); // a constant has its own mean

        // kl_engine and entropy are those of a batch that has the other samples alone
        var alone = Update([.. rollouts.Where(r => r.Group % 2 == 1)], Grpo.Create(), options);
        var report = Update(rollouts, Grpo.Create(), options).Last;
        double scale = average == LossAverage.ConstantLength ? Share(rollouts) : 1;
        Assert.Equal(alone.Last.Report["kl_engine"] * scale, report.Report["kl_engine"], 1e-5);
        Assert.Equal(alone.Last.Entropy, report.Entropy, 1e-6);
    }

    /// <summary>Mean length of all samples over that of the computed ones: what constant-length sums are scaled by.</summary>
    private static double Share(List<Rollout> rollouts) =>
        rollouts.Average(r => (double)r.Tokens.Length)
        / rollouts.Where(r => r.Group % 2 == 1).Average(r => (double)r.Tokens.Length);

    [Fact]
    public void Algorithm_that_does_not_declare_it_sees_all_samples()
    {
        Assert.False(Grpo.Create(klCoefficient: 0.1).SkipsZeroAdvantages);
        Assert.False(Gspo.Create(klCoefficient: 0.1).SkipsZeroAdvantages);
        Assert.True(Gspo.Create().SkipsZeroAdvantages);
        var samples = new List<int>();
        var algorithm = new Algorithm(
            group => [.. group.Select(_ => new float[] { 0 })],
            t =>
            {
                samples.Add(t.Samples);
                return ((t.LogProbs * t.Weights).sum(), []);
            }
        );
        var rollouts = Rollouts(true, false);
        var outcome = Update(rollouts, algorithm, Options);
        Assert.Equal(6, samples.Sum());
        Assert.Equal(outcome.Last.TokensAsked, outcome.Last.Tokens);
        Assert.Contains(outcome.Gradient, g => g != 0);
    }

    /// <summary>A sample with one advantage a token is computed as long as one of them is not 0.</summary>
    [Fact]
    public void Sample_with_one_advantage_that_is_not_0_is_computed()
    {
        var rollouts = Rollouts(true);
        var samples = new List<int>();
        var algorithm = new Algorithm(
            group =>
                [
                    new float[group[0].Tokens.Length],
                    [.. Enumerable.Range(0, group[1].Tokens.Length).Select(i => i == 1 ? 1f : 0)],
                    [-0f],
                ],
            t =>
            {
                samples.Add(t.Samples);
                return ((t.LogProbs * t.Advantages * t.Weights).sum(), []);
            }
        )
        {
            SkipsZeroAdvantages = true,
        };
        Update(rollouts, algorithm, Options);
        Assert.Equal([1], samples);
    }

    /// <summary>Their weights are those of a step without them; their rewards still move the mean of their group.</summary>
    [Theory]
    [InlineData(LossAverage.Token, 1)]
    [InlineData(LossAverage.Sequence, 1)]
    [InlineData(LossAverage.ConstantLength, 2)]
    public void Masked_samples_have_no_part_in_the_loss(LossAverage average, int miniBatches)
    {
        var rollouts = Rollouts(false, false, false);
        foreach (int cut in new[] { 1, 3, 4, 5 })
            rollouts[cut] = rollouts[cut] with { FinishReason = FinishReason.Length };
        var options = Options with { LossAverage = average, MiniBatches = miniBatches };
        var masked = Update(rollouts, Grpo.Create(), options with { MaskTruncated = true });

        // The same advantages, of the other samples alone
        var advantages = rollouts.Zip(rollouts.GroupBy(r => r.Group).SelectMany(g => Grpo.Advantages([.. g], true)));
        var byText = advantages.ToDictionary(a => (a.First.Group, a.First.Sample), a => a.Second);
        var given = Grpo.Create() with { Advantages = group => [.. group.Select(r => byText[(r.Group, r.Sample)])] };
        var expected = Update([.. rollouts.Where(r => !r.IsTruncated)], given, options);

        Assert.Equal(expected.Gradient, masked.Gradient);
        Assert.Equal(expected.Weights, masked.Weights);
        Assert.Equal(miniBatches, masked.Updates.Count);
    }

    [Fact]
    public void Step_of_nothing_but_masked_samples_changes_no_weight()
    {
        Rollout[] rollouts = [.. Rollouts(false, false).Select(r => r with { FinishReason = FinishReason.Length })];
        var masked = Update([.. rollouts], Grpo.Create(), Options with { MaskTruncated = true });
        Assert.All(masked.Gradient, g => Assert.Equal(0, g));
        Assert.True(masked.Last.Entropy > 0);
    }

    /// <summary>With masked or dropped samples fewer may be left than there are mini-batches.</summary>
    [Fact]
    public void Mini_batches_without_a_sample_are_no_updates()
    {
        var rollouts = Rollouts(false);
        rollouts[1] = rollouts[1] with { FinishReason = FinishReason.Length };
        var outcome = Update(rollouts, Grpo.Create(), Options with { MaskTruncated = true, MiniBatches = 3 });
        Assert.Equal(2, outcome.Updates.Count);
        Assert.All(outcome.Updates, u => Assert.True(double.IsFinite(u.Loss)));
    }

    /// <summary>The step is made, with a gradient of zeros; one group is computed, so that figures exist.</summary>
    [Fact]
    public void Update_without_any_advantage_computes_one_group()
    {
        var rollouts = Rollouts(true, true, true);
        var all = Update(rollouts, Grpo.Create(), Options with { SkipZeroAdvantages = false });
        var taught = Update(rollouts, Grpo.Create(), Options);
        Assert.All(taught.Gradient, g => Assert.Equal(0, g));
        Assert.Equal(all.Weights, taught.Weights);
        Assert.Equal(rollouts.Take(3).Sum(r => r.TotalTokens - 1), taught.Last.Tokens);
        Assert.True(taught.Last.Entropy > 0);
        Assert.Equal(all.Last.Report.Keys.Order(), taught.Last.Report.Keys.Order());
    }
}
