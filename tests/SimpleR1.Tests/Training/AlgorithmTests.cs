using SimpleR1.Training.Algorithms;
using SimpleR1.Training.Recipes.Sections;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Training;

public sealed class AlgorithmTests
{
    /// <summary>Two samples, of 2 and of 3 trained tokens, each sample weighted alike as loss_average sequence does.</summary>
    private static LossInput Input(float[] current, float[] old, float[] advantages) =>
        new()
        {
            LogProbs = tensor(current, requires_grad: true),
            OldLogProbs = tensor(old),
            EngineLogProbs = tensor(old),
            ReferenceLogProbs = null,
            Advantages = tensor(advantages),
            Weights = tensor([0.25f, 0.25f, 1f / 6, 1f / 6, 1f / 6]),
            WeightVersions = zeros(5, int64),
            Sample = tensor([0L, 0, 1, 1, 1]),
            Samples = 2,
        };

    [Fact]
    public void Gspo_clips_one_ratio_for_each_sequence()
    {
        using var scope = NewDisposeScope();
        float[] old = [-1, -2, -3, -1, -2];
        float[] current = [-0.9f, -2.05f, -2.7f, -0.7f, -1.7f]; // mean log ratios: 0.025 and 0.3
        var input = Input(current, old, [1, 1, 2, 2, 2]);

        var (loss, report) = Gspo.Create(clipLow: 0.1, clipHigh: 0.1).Loss(input);

        double first = Math.Exp(0.025);
        double second = 1.1; // exp(0.3) is clipped
        Assert.Equal(-(first * 1 + second * 2) / 2, loss.item<float>(), 1e-6);
        Assert.Equal(0.5, report["clip_fraction"].item<float>(), 1e-6);

        // d loss / d log p = -½ · ratio · advantage / length for the sequence that counts, 0 for the clipped one
        loss.backward();
        float[] gradient = input.LogProbs.grad!.data<float>().ToArray();
        float[] expected = [(float)(-first / 4), (float)(-first / 4), 0, 0, 0];
        for (int i = 0; i < 5; i++)
            Assert.Equal(expected[i], gradient[i], 1e-6f);
    }

    [Fact]
    public void Gspo_with_a_negative_advantage_keeps_the_larger_ratio()
    {
        using var scope = NewDisposeScope();
        float[] old = [-1, -2, -3, -1, -2];
        float[] current = [-0.5f, -1.5f, -3.5f, -1.5f, -2.5f]; // mean log ratios: 0.5 and -0.5
        var (loss, report) = Gspo.Create(clipLow: 0.1, clipHigh: 0.1).Loss(Input(current, old, [-1, -1, -1, -1, -1]));
        Assert.Equal((Math.Exp(0.5) + 0.9) / 2, loss.item<float>(), 1e-6);
        Assert.Equal(0.5, report["clip_fraction"].item<float>(), 1e-6); // the first is outside the range, and counts fully
    }

    /// <summary>
    /// The clip limits what a good token gains above the range and what a bad one is spared below it. On the other sides
    /// it does nothing.
    /// </summary>
    [Fact]
    public void Grpo_counts_as_clipped_where_the_clip_lowers_the_gain()
    {
        using var scope = NewDisposeScope();
        float[] old = [-1, -2, -3, -1, -2];
        float[] current = [-0.5f, -2.5f, -2.5f, -1.5f, -2]; // ratios above, below; above, below, 1
        var (_, report) = Grpo.Create().Loss(Input(current, old, [1, 1, -1, -1, -1]));
        Assert.Equal(0.25 + 1.0 / 6, report["clip_fraction"].item<float>(), 1e-6);
    }

    [Fact]
    public void Registry_makes_each_algorithm_from_its_section()
    {
        Assert.Equal(["grpo", "gspo"], AlgorithmRegistry.Names);
        foreach (string name in AlgorithmRegistry.Names)
            Assert.NotNull(AlgorithmRegistry.Create(new AlgorithmSection { Name = name }));
        Assert.Contains(
            "there are grpo, gspo",
            Assert
                .Throws<ArgumentException>(() => AlgorithmRegistry.Create(new AlgorithmSection { Name = "ppo" }))
                .Message
        );
    }

    [Fact]
    public void SampleMean_gives_each_token_the_mean_of_its_sample()
    {
        using var scope = NewDisposeScope();
        var input = Input([1, 3, 1, 2, 6], new float[5], new float[5]);
        Assert.Equal([2f, 2, 3, 3, 3], input.SampleMean(input.LogProbs).data<float>().ToArray());
    }
}
