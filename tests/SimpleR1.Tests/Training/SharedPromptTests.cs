using SimpleR1.Inference;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Training.Algorithms;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Rollouts;
using Xunit;
using Decoder = SimpleR1.Models.Decoder;
using Segment = SimpleR1.Tensors.Operands.Segment;
using Turn = SimpleR1.Training.Rollouts.Segment;

namespace SimpleR1.Tests.Training;

/// <summary>A group's prompt computed once gives what a prompt for each sample gives.</summary>
public sealed class SharedPromptTests
{
    private static TrainingSequence Sequence(int? group, int[] tokens, params int[] trained) =>
        new(tokens, trained) { Group = group };

    [Fact]
    public void Batch_has_the_prompt_of_a_group_once()
    {
        using var batch = new PackedBatch([
            Sequence(1, [5, 6, 7, 8, 9], 3, 4),
            Sequence(1, [5, 6, 7, 3], 3), // a single trained token: its row is the prompt's last, and nothing is left
            Sequence(1, [5, 6, 7, 8, 2, 1, 4], 3, 6), // two turns
            Sequence(2, [5, 6, 7], 2),
            Sequence(null, [5, 6], 1),
            Sequence(null, [5, 6], 1),
        ]);
        Segment[] expected = [new(0, 3), new(3, 1, 0), new(4, 3, 0), new(7, 2), new(9, 1), new(10, 1)];
        Assert.Equal(expected, batch.Segments);
        Assert.Equal([5, 6, 7, 8, 8, 2, 1, 5, 6, 5, 5], batch.Ids.data<long>().ToArray());
        Assert.Equal([0, 1, 2, 3, 3, 4, 5, 0, 1, 0, 0], batch.Positions.data<long>().ToArray());
        Assert.Equal([2, 3, 2, 2, 6, 8, 9, 10], batch.Rows.data<long>().ToArray());
        Assert.Equal([8, 9, 3, 8, 4, 7, 6, 6], batch.Targets.data<long>().ToArray());
    }

    /// <summary>Tokens in common after the first trained one are still each sample's own, and so is all after a difference.</summary>
    [Theory]
    [InlineData(new[] { 1, 2, 3, 4, 5 }, 2, new[] { 1, 2, 3, 4, 6 }, 4, 2)]
    [InlineData(new[] { 1, 2, 3, 4, 5 }, 4, new[] { 1, 2, 9, 4, 6 }, 4, 2)]
    [InlineData(new[] { 1, 2, 3 }, 2, new[] { 9, 2, 3 }, 2, 0)]
    public void Shared_tokens_end_at_the_first_trained_or_different_one(
        int[] first,
        int firstTrained,
        int[] second,
        int secondTrained,
        int shared
    )
    {
        TrainingSequence[] sequences = [Sequence(0, first, firstTrained), Sequence(0, second, secondTrained)];
        using var batch = new PackedBatch(sequences);
        Assert.Equal(first.Length - 1 + second.Length - 1 - shared, batch.Computed);
        Assert.Equal(shared > 0, batch.Segments.Any(s => s.Prefix >= 0));
    }

    [Fact]
    public void Micro_batches_cut_a_group_only_where_none_can_hold_it()
    {
        static TrainingSequence[] Group(int? group, int samples) =>
            [.. Enumerable.Range(0, samples).Select(s => Sequence(group, [1, 2, 3, 4, 5, 9, 8], 4, 5))];

        static Range[] Split(int tokens, params TrainingSequence[] sequences) =>
            [.. PackedBatch.Split(sequences, tokens)];

        // A sample computes 6 tokens, of which 4 are shared: groups of 3 have 10
        TrainingSequence[] three = [.. Group(0, 3), .. Group(1, 3), .. Group(2, 3)];
        Assert.Equal([0..6, 6..9], Split(20, three));
        Assert.Equal([0..3, 3..6, 6..9], Split(19, three));
        Assert.Equal([0..2, 2..4, 4..6, 6..8, 8..9], Split(9, [.. Group(0, 2), .. Group(1, 4), .. Group(2, 3)]));

        // Two samples of a group in each batch, and the third alone: the next group fits no better next to it
        Assert.Equal([0..2, 2..3, 3..5, 5..6], Split(8, [.. Group(0, 3), .. Group(1, 3)]));
        Assert.Equal([0..3, 3..6, 6..7], Split(18, Group(null, 7)));
        Assert.Equal([0..1, 1..2], Split(3, Group(0, 2)));
    }

    public static readonly TheoryData<string, int, bool> Batches = new()
    {
        { "llama", 1000, false },
        { "llama3_rope", 50, false }, // cut groups
        { "qwen2", 64, true },
        { "qwen3", 1000, true },
        { "qwen3", 50, false },
    };

    [Theory, MemberData(nameof(Batches))]
    public void Gradients_equal_those_of_a_prompt_for_each_sample(string family, int tokens, bool checkpointing)
    {
        var apart = Update(family, tokens, checkpointing, shared: false);
        var shared = Update(family, tokens, checkpointing, shared: true);

        Assert.Equal(apart.Statistics.Loss, shared.Statistics.Loss, 1e-6);
        Assert.Equal(apart.Statistics.Entropy, shared.Statistics.Entropy, 1e-5);
        Assert.Equal(apart.Statistics.Tokens, shared.Statistics.TokensAsked);
        Assert.Equal(apart.Statistics.Tokens, apart.Statistics.TokensAsked);
        Assert.InRange(shared.Statistics.Tokens, 100, apart.Statistics.Tokens - 20);
        foreach (var (name, expected) in apart.Gradients)
        {
            double norm = Math.Sqrt(expected.Sum(g => (double)g * g));
            double difference = Math.Sqrt(
                expected.Zip(shared.Gradients[name]).Sum(p => Math.Pow(p.First - p.Second, 2))
            );
            Assert.True(norm > 0 && difference <= 1e-5 * norm, $"{name}: off by {difference / norm:E2} of its norm");
        }
    }

    [Fact]
    public void Gradients_have_the_same_bits_in_each_run()
    {
        var first = Update("qwen3", 60, false, shared: true).Gradients;
        var second = Update("qwen3", 60, false, shared: true).Gradients;
        foreach (var (name, gradient) in first)
            Assert.Equal(gradient, second[name]);
    }

    private static (UpdateStatistics Statistics, Dictionary<string, float[]> Gradients) Update(
        string family,
        int tokens,
        bool checkpointing,
        bool shared
    )
    {
        using var weights = Checkpoint.Load(
            Path.Combine(SharedData.RepositoryRoot, "tests", "data", "tiny-random", family)
        );
        using var policy = new PolicyModel(
            new Decoder(weights),
            new Optimizer(weights, new() { MaxGradientNorm = 0 }),
            new(tokens, checkpointing)
        );
        var options = new PolicyGradientOptions
        {
            Temperature = 0.9,
            MaxNewTokens = 50,
            SharedPrompts = shared,
            SkipZeroAdvantages = false, // a group of one has no advantage
        };
        var algorithm = Grpo.Create(importanceCap: 2);
        var trainer = new PolicyGradient(policy, algorithm, options, null);
        var statistics = Assert.Single(trainer.Update(Rollouts(weights.Layout.Config.VocabularySize), 0, 0));
        return (
            statistics,
            weights.Layout.Slots.ToDictionary(
                slot => slot.Name,
                slot => policy.Optimizer.Gradient.narrow(0, slot.Offset, slot.Length).data<float>().ToArray()
            )
        );
    }

    /// <summary>
    /// Groups with prompts of 1, 12 and 37 tokens and answers of 1 to 30, one group of a single sample, and one whose
    /// samples have two turns.
    /// </summary>
    private static List<Rollout> Rollouts(int vocabulary)
    {
        var random = new Random(7);
        var rollouts = new List<Rollout>();
        int group = 0;
        foreach (var (prompt, samples, turns) in new[] { (1, 4, 1), (12, 4, 1), (37, 3, 1), (9, 1, 1), (11, 3, 2) })
        {
            int[] read = Ids(prompt);
            for (int sample = 0; sample < samples; sample++)
                rollouts.Add(Rollout(group, sample, read, turns));
            group++;
        }
        return rollouts;

        int[] Ids(int length) => [.. Enumerable.Range(0, length).Select(_ => random.Next(vocabulary))];

        Turn Sampled(int length) =>
            new(Ids(length), [.. Ids(length).Select(_ => -4f - random.NextSingle())], new int[length]);

        Rollout Rollout(int place, int sample, int[] prompt, int turns)
        {
            int length = sample == 1 ? 1 : 2 + random.Next(29);
            Turn[] second = turns == 2 ? [Turn.Read(Ids(3)), Sampled(4)] : [];
            return new()
            {
                Group = place,
                Sample = sample,
                Question = "",
                Gold = "",
                Text = "",
                Reward = sample * sample / 4.0 + (place == 3 ? 1 : 0),
                Rewards = new Dictionary<string, double>(),
                FinishReason = FinishReason.Stop,
                Segments = [Turn.Read(prompt), Sampled(length), .. second],
            };
        }
    }
}
