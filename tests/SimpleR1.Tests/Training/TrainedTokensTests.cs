using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Training.Algorithms;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Rollouts;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Training;

/// <summary>Tokens that the policy only read are never trained, wherever they are in a conversation.</summary>
public sealed class TrainedTokensTests
{
    private const double Temperature = 0.8;

    private static readonly PolicyGradientOptions Options = new() { Temperature = Temperature, MaxNewTokens = 50 };

    /// <summary>Two conversations of two turns, with 4 read tokens between them, and one of a single turn.</summary>
    private static Rollout[] Conversations(ModelConfig config)
    {
        var random = new Random(5);
        return [.. Enumerable.Range(0, 3).Select(Conversation)];

        Rollout Conversation(int sample) =>
            new()
            {
                Group = 0,
                Sample = sample,
                Question = "",
                Gold = "",
                Text = "",
                Reward = sample / 2.0,
                Rewards = new Dictionary<string, double>(),
                FinishReason = FinishReason.Stop,
                Segments =
                    sample == 2
                        ? [Segment.Read(Ids(3)), Sampled(6)]
                        : [Segment.Read(Ids(3)), Sampled(5), Segment.Read(Ids(4)), Sampled(7 + sample)],
            };

        Segment Sampled(int length) =>
            new(Ids(length), [.. Ids(length).Select(_ => -4f - random.NextSingle())], new int[length]);

        int[] Ids(int length) => [.. Enumerable.Range(0, length).Select(_ => random.Next(config.VocabularySize))];
    }

    /// <summary>Places of the sampled tokens, written down by hand.</summary>
    private static int[] SampledPlaces(int sample) =>
        sample == 2 ? [3, 4, 5, 6, 7, 8] : [3, 4, 5, 6, 7, .. Enumerable.Range(12, 7 + sample)];

    [Fact]
    public void Update_with_an_untrained_gap_equals_masking_by_hand()
    {
        using var scope = NewDisposeScope();
        var config = TinyModels.Config(ModelFamily.Qwen3);
        using var weights = TinyModels.Random(config);
        using var plain = new PlainTransformer(weights);
        using var policy = new PolicyModel(
            new Decoder(weights),
            new Optimizer(weights, new() { MaxGradientNorm = 0 }),
            new(30)
        );
        var rollouts = Conversations(config);
        var algorithm = Grpo.Create(normalizeByStd: false);

        var update = Assert.Single(new PolicyGradient(policy, algorithm, Options, null).Update(rollouts, 0, 0));

        double trained = 12 + 13 + 6;
        double loss = 0;
        foreach (var rollout in rollouts)
        {
            int[] all = [.. rollout.Segments.SelectMany(s => s.Tokens)];
            var logProbs = plain.LogProbs(all, Temperature); // [tokens, vocabulary]
            foreach (int place in SampledPlaces(rollout.Sample))
            {
                var logProb = logProbs[place - 1, all[place]];
                var term = -(logProb - logProb.item<double>()).exp() * (rollout.Reward - 0.5) / trained;
                loss += term.item<double>();
                term.backward(retain_graph: true);
            }
        }
        Assert.Equal(loss, update.Loss, 1e-6);
        foreach (var t in weights.Layout.CheckpointTensors)
        {
            var expected = plain.Parameters[t.Name].grad!;
            var found = policy.Optimizer.Gradient.narrow(0, t.Offset, t.Length).view(t.Shape).to(float64);
            double error = (found - expected).norm().item<double>() / (expected.norm().item<double>() + 1e-12);
            Assert.True(error < 1e-5, $"{t.Name}: relative gradient error {error:E2}");
        }
    }

    [Fact]
    public void Loss_sees_the_trained_tokens_and_which_sample_each_is_of()
    {
        var config = TinyModels.Config();
        using var weights = TinyModels.Random(config);
        using var policy = new PolicyModel(new Decoder(weights), new Optimizer(weights, new()), new(1000));
        var rollouts = Conversations(config);
        var seen = new List<LossInput>();
        float[][] advantages =
        [
            [1],
            [.. Enumerable.Range(0, 13).Select(i => (float)i)],
            [2],
        ];
        var algorithm = new Algorithm(
            _ => advantages,
            t =>
            {
                Assert.Equal(3, t.Samples);
                Assert.Equal(
                    [.. Enumerable.Repeat(0L, 12), .. Enumerable.Repeat(1L, 13), .. Enumerable.Repeat(2L, 6)],
                    t.Sample.data<long>().ToArray()
                );
                Assert.Equal(
                    [.. Enumerable.Repeat(1f, 12), .. advantages[1], .. Enumerable.Repeat(2f, 6)],
                    t.Advantages.data<float>().ToArray()
                );
                Assert.Equal(rollouts.SelectMany(r => r.LogProbs), t.EngineLogProbs.data<float>().ToArray());
                Assert.Equal(1, t.Weights.sum().item<float>(), 1e-6);
                seen.Add(t);
                return ((t.LogProbs * t.Weights).sum(), []);
            }
        );
        new PolicyGradient(policy, algorithm, Options, null).Update(rollouts, 0, 0);
        Assert.Single(seen);
    }

    [Theory]
    [InlineData(new int[0], "no token is trained")]
    [InlineData(new[] { 0, 1 }, "found 0 after 0")]
    [InlineData(new[] { 2, 2 }, "found 2 after 2")]
    [InlineData(new[] { 1, 4 }, "found 4 after 1")]
    public void Positions_that_can_not_be_trained_are_refused(int[] positions, string expected)
    {
        var sequence = new TrainingSequence([1, 2, 3, 4], positions);
        Assert.Contains(expected, Assert.Throws<ArgumentException>(() => new PackedBatch([sequence])).Message);
    }
}
