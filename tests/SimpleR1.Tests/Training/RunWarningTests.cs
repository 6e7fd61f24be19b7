using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Reports;
using Xunit;

namespace SimpleR1.Tests.Training;

public sealed class RunWarningTests
{
    private const int Vocabulary = 264;

    private static readonly StepReport Healthy = new()
    {
        Step = 1,
        Steps = 100,
        Reward = 0.4,
        Accuracy = 0.3,
        Length = 20,
        Truncated = 0.1,
        UniformGroups = 0.5,
        Loss = 0.1,
        Entropy = 0.5,
        GradientNorm = 1,
        LearningRate = 1e-6,
        Details = new Dictionary<string, double> { ["reward_accuracy"] = 0.3, ["kl_engine"] = 1e-6 },
        GenerationSeconds = 1,
        GeneratedTokens = 100,
        TrainingSeconds = 1,
        TrainedTokens = 100,
        AskedTokens = 100,
        SyncSeconds = 0.1,
        StepSeconds = 2,
        EtaSeconds = 100,
    };

    /// <summary>The step of each warning with its text, over steps that are all like this one.</summary>
    private static (int Step, string Text)[] Warnings(StepReport like, int steps, int of = 100)
    {
        var warnings = new RunWarnings(Vocabulary, 0.02);
        return
        [
            .. Enumerable
                .Range(1, steps)
                .SelectMany(step => warnings.Check(like with { Step = step, Steps = of }).Select(text => (step, text))),
        ];
    }

    private static StepReport With(string detail, double value) =>
        Healthy with
        {
            Details = new Dictionary<string, double>(Healthy.Details) { [detail] = value },
        };

    [Fact]
    public void Healthy_run_has_no_warning() => Assert.Empty(Warnings(Healthy, 100));

    [Fact]
    public void Uniform_groups_are_reported_once_with_what_to_try()
    {
        var (step, text) = Assert.Single(Warnings(Healthy with { UniformGroups = 1, Accuracy = 0, Reward = 0 }, 50));
        Assert.Equal(5, step);
        Assert.Contains("nothing is learned", text);
        Assert.Contains("easier problems", text);
        Assert.Contains(
            "harder problems",
            Assert.Single(Warnings(Healthy with { UniformGroups = 1, Accuracy = 1 }, 50)).Text
        );
    }

    [Fact]
    public void Policy_that_stops_to_explore_while_much_is_wrong_is_reported_once()
    {
        var narrow = Healthy with { Entropy = 0.03, UniformGroups = 0.9 };
        var (step, text) = Assert.Single(After(narrow));
        Assert.Equal(10 + 3, step);
        Assert.Contains("stopped to explore", text);
        Assert.Contains("algorithm.clip_high", text);
        Assert.Empty(After(narrow with { Accuracy = 0.95 })); // it is right where it is sure
        Assert.Empty(After(narrow with { UniformGroups = 0.5 }));

        static (int Step, string Text)[] After(StepReport later)
        {
            var warnings = new RunWarnings(Vocabulary, 0.02);
            return
            [
                .. Enumerable
                    .Range(1, 40)
                    .SelectMany(step =>
                        warnings.Check((step <= 10 ? Healthy : later) with { Step = step }).Select(text => (step, text))
                    ),
            ];
        }
    }

    [Fact]
    public void Sign_that_comes_and_goes_is_no_reason_to_warn()
    {
        var warnings = new RunWarnings(Vocabulary, 0.02);
        for (int step = 1; step <= 40; step++)
            Assert.Empty(
                warnings.Check(
                    Healthy with
                    {
                        Step = step,
                        UniformGroups = step % 5 == 0 ? 0.9 : 1,
                        Truncated = step % 3 == 0 ? 0.9 : 1,
                    }
                )
            );
    }

    [Fact]
    public void Short_run_is_warned_of_at_its_end()
    {
        var (step, text) = Assert.Single(Warnings(Healthy with { UniformGroups = 1 }, steps: 2, of: 2));
        Assert.Equal(2, step);
        Assert.Contains("nothing is learned", text);
    }

    [Fact]
    public void Collapse_to_noise_and_onto_one_answer_are_told_apart()
    {
        double random = Math.Log(Vocabulary);
        Assert.Contains(
            "at random",
            Assert.Single(Warnings(Healthy with { Entropy = random, Accuracy = 0, Reward = 0 }, 10)).Text
        );
        Assert.Contains(
            "one wrong answer",
            Assert.Single(Warnings(Healthy with { Entropy = 0.001, Accuracy = 0, Reward = 0 }, 10)).Text
        );
        Assert.Empty(Warnings(Healthy with { Entropy = 0.001, Accuracy = 0.9 }, 10)); // certain, and right
    }

    [Fact]
    public void Completions_that_never_end_are_reported() =>
        Assert.Contains("rollout.max_new_tokens", Assert.Single(Warnings(Healthy with { Truncated = 1 }, 10)).Text);

    [Fact]
    public void Reward_that_nobody_earns_is_named()
    {
        var (step, text) = Assert.Single(Warnings(With("reward_format", 0), 50));
        Assert.Equal(20, step);
        Assert.Contains("the reward 'format'", text);
    }

    [Theory]
    [InlineData("kl_engine", 2)]
    [InlineData("kl_update", 5)]
    [InlineData("kl_reference", 100)]
    public void Divergence_that_is_huge_is_reported(string name, double value) =>
        Assert.StartsWith(name, Assert.Single(Warnings(With(name, value), 10)).Text);
}
