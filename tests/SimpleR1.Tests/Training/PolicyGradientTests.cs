using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Training.Algorithms;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Rollouts;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Training;

public sealed class PolicyGradientTests
{
    private const double Temperature = 0.9;

    /// <summary>3 groups of 4 samples of different lengths and rewards; the engine's log-probs are slightly off.</summary>
    private static List<Rollout> Rollouts(ModelConfig config, int seed = 3)
    {
        var random = new Random(seed);
        var rollouts = new List<Rollout>();
        for (int group = 0; group < 3; group++)
        {
            int[] prompt = [.. Enumerable.Range(0, 3 + 4 * group).Select(_ => random.Next(config.VocabularySize))];
            for (int sample = 0; sample < 4; sample++)
            {
                int length = 2 + random.Next(40);
                rollouts.Add(
                    new()
                    {
                        Group = group,
                        Sample = sample,
                        Question = "",
                        Gold = "",
                        Text = "",
                        Reward = random.Next(3) / 2.0,
                        Rewards = new Dictionary<string, double>(),
                        FinishReason = FinishReason.Stop,
                        Segments =
                        [
                            Segment.Read(prompt),
                            new(
                                [.. Enumerable.Range(0, length).Select(_ => random.Next(config.VocabularySize))],
                                [.. Enumerable.Range(0, length).Select(_ => -4f - random.NextSingle())],
                                new int[length]
                            ),
                        ],
                    }
                );
            }
        }
        return rollouts;
    }

    private static readonly PolicyGradientOptions Options = new() { Temperature = Temperature, MaxNewTokens = 50 };

    [Theory]
    [InlineData("llama", false, LossAverage.Token, false)]
    [InlineData("qwen2", true, LossAverage.Sequence, false)]
    [InlineData("qwen3", true, LossAverage.ConstantLength, true)]
    public void Update_equals_a_plain_implementation(string family, bool tied, LossAverage average, bool checkpointing)
    {
        using var scope = NewDisposeScope();
        var config = TinyModels.Config(ModelFamily.Named(family), tied: tied);
        using var weights = TinyModels.Random(config);
        using var plain = new PlainTransformer(weights);
        using var referenceWeights = TinyModels.Random(config, seed: 8);
        using var plainReference = new PlainTransformer(referenceWeights);
        using var reference = new Decoder(referenceWeights);
        using var policy = new PolicyModel(
            new Decoder(weights),
            new Optimizer(weights, new() { MaxGradientNorm = 0 }),
            new(64, checkpointing)
        );
        var rollouts = Rollouts(config);
        var algorithm = Grpo.Create(normalizeByStd: true, klCoefficient: 0.05, importanceCap: 2);

        var update = Assert.Single(
            new PolicyGradient(policy, algorithm, Options with { LossAverage = average }, reference).Update(
                rollouts,
                0,
                0
            )
        );

        double loss = PlainLoss(plain, plainReference, rollouts, average);
        Assert.Equal(loss, update.Loss, 1e-5 * Math.Abs(loss) + 1e-7);
        foreach (var t in weights.Layout.CheckpointTensors)
        {
            var expected = plain.Parameters[t.Name].grad!;
            var found = policy.Optimizer.Gradient.narrow(0, t.Offset, t.Length).view(t.Shape).to(float64);
            double error = (found - expected).norm().item<double>() / (expected.norm().item<double>() + 1e-12);
            Assert.True(error < 1e-5, $"{t.Name}: relative gradient error {error:E2}");
        }
    }

    /// <summary>The loss written down token by token; leaves its gradient in <paramref name="plain"/>.</summary>
    private static double PlainLoss(
        PlainTransformer plain,
        PlainTransformer plainReference,
        List<Rollout> rollouts,
        LossAverage average
    )
    {
        double trained = rollouts.Sum(r => r.Tokens.Length);
        double loss = 0;
        foreach (var r in rollouts)
        {
            double advantage = Advantage(r, rollouts);
            double weight = average switch
            {
                LossAverage.Token => 1 / trained,
                LossAverage.Sequence => 1.0 / 12 / r.Tokens.Length,
                _ => 1.0 / 12 / 50,
            };
            int[] all = [.. r.PromptTokens, .. r.Tokens];
            var logProbs = plain.LogProbs(all, Temperature);
            var frozen = plainReference.LogProbs(all, Temperature).detach();
            for (int i = 0; i < r.Tokens.Length; i++)
            {
                int row = r.PromptTokens.Length + i - 1;
                var lp = logProbs[row, r.Tokens[i]];
                double old = lp.item<double>();
                double importance = Math.Min(2, Math.Exp(old - r.LogProbs[i]));
                var difference = frozen[row, r.Tokens[i]] - lp;
                var term =
                    weight * (-(lp - old).exp() * advantage * importance + 0.05 * (difference.exp() - 1 - difference));
                loss += term.item<double>();
                term.backward(retain_graph: true);
            }
        }
        return loss;
    }

    private static double Advantage(Rollout rollout, List<Rollout> rollouts)
    {
        var group = rollouts.Where(o => o.Group == rollout.Group).Select(o => o.Reward).ToArray();
        double mean = group.Average();
        double std = Math.Sqrt(group.Select(x => (x - mean) * (x - mean)).Average());
        return (rollout.Reward - mean) / (std + 1e-4);
    }

    [Fact]
    public void Gradients_equal_finite_differences()
    {
        using var scope = NewDisposeScope();
        var config = TinyModels.Config(ModelFamily.Qwen3);
        using var weights = TinyModels.Random(config);
        using var policy = new PolicyModel(new Decoder(weights), new Optimizer(weights, new()), new(64));
        var rollouts = Rollouts(config);
        var trainer = new PolicyGradient(policy, Grpo.Create(), Options with { MiniBatches = 1 }, null);
        TrainingSequence[] sequences =
        [
            .. rollouts.Select(r => new TrainingSequence([.. r.PromptTokens, .. r.Tokens], r.PromptTokens.Length)),
        ];
        double Objective() =>
            policy
                .LogProbs(sequences, Temperature)
                .Zip(rollouts)
                .Sum(pair => pair.First.Select(p => (double)p).Sum() * (pair.Second.Reward - 0.4)) / 100;
        policy.Update(
            sequences,
            Temperature,
            0,
            0,
            (range, logProbs) =>
            {
                var rewards = rollouts
                    .Take(range)
                    .SelectMany(r => Enumerable.Repeat((float)(r.Reward - 0.4) / 100, r.Tokens.Length))
                    .ToArray();
                return ((logProbs * tensor(rewards)).sum(), []);
            }
        );
        AssertSlopes(policy, Objective);
    }

    /// <summary>In a random direction of each tensor, the objective's slope is the gradient's product with the direction.</summary>
    private static void AssertSlopes(PolicyModel policy, Func<double> objective)
    {
        var weights = policy.Weights;
        var random = new Random(1);
        foreach (var slot in weights.Layout.Slots)
        {
            var direction = tensor(
                Enumerable.Range(0, (int)slot.Length).Select(_ => (float)(random.NextDouble() - 0.5)).ToArray()
            );
            var view = weights.Flat.narrow(0, slot.Offset, slot.Length);
            const double h = 1e-3;
            using var saved = view.clone();
            view.copy_(saved + h * direction);
            double up = objective();
            view.copy_(saved - h * direction);
            double down = objective();
            view.copy_(saved);
            double slope = (up - down) / (2 * h);
            double expected = policy
                .Optimizer.Gradient.narrow(0, slot.Offset, slot.Length)
                .dot(direction)
                .item<float>();
            Assert.True(
                Math.Abs(slope - expected) < 2e-3 * Math.Max(0.05, Math.Abs(expected)),
                $"{slot.Name}: slope {slope:G6}, gradient {expected:G6}"
            );
        }
    }

    [Fact]
    public void Update_with_a_non_finite_loss_leaves_the_weights_alone()
    {
        var config = TinyModels.Config();
        using var weights = TinyModels.Random(config);
        using var policy = new PolicyModel(new Decoder(weights), new Optimizer(weights, new()), new(64));
        using var before = weights.Flat.clone();
        TrainingSequence[] sequences = [new([1, 2, 3, 4], 1), new([5, 6, 7], 1)];
        var e = Assert.Throws<NonFiniteException>(() =>
            policy.Update(sequences, 1, 12, 1, (_, logProbs) => (logProbs.sum() * float.NaN, []))
        );
        Assert.Contains("step 12, micro-batch 0", e.Message);
        Assert.True(before.Equals(weights.Flat));
    }

    /// <summary>A custom algorithm may drop all samples of a micro-batch: its loss is then a constant.</summary>
    [Fact]
    public void Update_with_a_loss_of_constants_has_no_gradient_of_them()
    {
        var config = TinyModels.Config();
        using var weights = TinyModels.Random(config);
        using var policy = new PolicyModel(new Decoder(weights), new Optimizer(weights, new()), new(4));
        TrainingSequence[] sequences = [new([1, 2, 3, 4], 1), new([5, 6, 7], 1)];
        using var before = weights.Flat.clone();
        Assert.Equal(0, policy.Update(sequences, 1, 0, 1, (_, _) => (zeros(1).sum(), [])).GradientNorm);
        Assert.Equal(
            0,
            policy.Update(sequences, 1, 0, 1, (_, _) => (zeros(1, requires_grad: true).sum(), [])).GradientNorm
        );
        Assert.True(before.Equals(weights.Flat));

        int call = 0;
        var half = policy.Update(
            sequences,
            1,
            0,
            0,
            (_, logProbs) => (call++ == 0 ? zeros(1).sum() : logProbs.sum(), [])
        );
        Assert.True(half.GradientNorm > 0);
        Assert.Equal(2, call);
    }

    /// <summary>Advantages or log-probs of a wrong length would shift those of all later tokens.</summary>
    [Fact]
    public void Update_names_the_sample_with_a_wrong_number_of_values()
    {
        var config = TinyModels.Config();
        using var weights = TinyModels.Random(config);
        using var policy = new PolicyModel(new Decoder(weights), new Optimizer(weights, new()), new(64));
        string Refusal(Func<IReadOnlyList<Rollout>, float[][]> advantages, IReadOnlyList<Rollout>? rollouts = null) =>
            Assert
                .Throws<ArgumentException>(() =>
                    new PolicyGradient(policy, Grpo.Create() with { Advantages = advantages }, Options, null).Update(
                        rollouts ?? Rollouts(config),
                        0,
                        0
                    )
                )
                .Message;

        // One too many for a sample and one too few for the next: together they would fit
        string message = Refusal(group =>
            [.. group.Select((r, i) => new float[r.Tokens.Length + (r.Group == 1 && i < 2 ? 1 - 2 * i : 0)])]
        );
        Assert.Contains("advantages for sample 0 of group 1 with", message);
        Assert.Contains(
            "for 3 samples of group 0, which has 4",
            Refusal(group => [.. group.Skip(1).Select(_ => new float[1])])
        );

        var broken = Rollouts(config);
        var (prompt, sampled) = (broken[5].Segments[0], broken[5].Segments[1]);
        broken[5] = broken[5] with { Segments = [prompt, sampled with { LogProbs = [-1] }] };
        Assert.Contains("sample 1 of group 1 has a sampled segment", Refusal(Grpo.Create().Advantages, broken));
    }

    [Fact]
    public void Micro_batch_size_does_not_change_the_update()
    {
        var config = TinyModels.Config();
        var rollouts = Rollouts(config);
        float[] Gradient(int tokens)
        {
            using var weights = TinyModels.Random(config);
            using var policy = new PolicyModel(new Decoder(weights), new Optimizer(weights, new()), new(tokens));
            new PolicyGradient(policy, Grpo.Create(), Options, null).Update(rollouts, 0, 0);
            return policy.Optimizer.Gradient.data<float>().ToArray();
        }
        float[] one = Gradient(100_000),
            many = Gradient(30);
        double norm = Math.Sqrt(one.Sum(g => (double)g * g)),
            difference = Math.Sqrt(one.Zip(many).Sum(p => Math.Pow(p.First - p.Second, 2)));
        Assert.True(norm > 0.01 && difference < 1e-5 * norm, $"norm {norm}, difference {difference}");
    }

    [Fact]
    public void Several_updates_a_batch_clip_against_the_log_probs_from_before()
    {
        var config = TinyModels.Config();
        using var weights = TinyModels.Random(config);
        using var policy = new PolicyModel(new Decoder(weights), new Optimizer(weights, new()), new(64));
        var trainer = new PolicyGradient(policy, Grpo.Create(), Options with { Epochs = 2, MiniBatches = 2 }, null);
        var updates = trainer.Update(Rollouts(config), 0, 0.02);
        Assert.Equal(4, updates.Count);
        Assert.Equal(0, updates[0].Report["clip_fraction"]);
        Assert.True(
            updates[3].Report["clip_fraction"] > 0.01,
            "a large learning rate must move ratios out of the clip range"
        );
    }
}
