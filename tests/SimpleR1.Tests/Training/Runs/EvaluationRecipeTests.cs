using SimpleR1.Training.Recipes;
using Xunit;

namespace SimpleR1.Tests.Training.Runs;

/// <summary>Recipes of rollouts, evaluations and the best checkpoint that exclude each other.</summary>
public sealed class EvaluationRecipeTests
{
    private static TrainRecipe Load(params string[] overrides) =>
        RecipeFile.Load<TrainRecipe>(Path.Combine(SharedData.RepositoryRoot, "recipes", "quickstart.yaml"), overrides);

    private static string Problem(params string[] overrides) =>
        Assert.Single(Assert.Throws<RecipeException>(() => Load(overrides)).Problems).ToString();

    [Theory]
    [InlineData("top_p", "0.9")]
    [InlineData("top_k", "20")]
    [InlineData("min_p", "0.05")]
    public void Filter_of_rollouts_is_refused_and_one_of_evaluations_is_not(string filter, string value)
    {
        string problem = Problem($"rollout.{filter}={value}");
        Assert.StartsWith($"--set rollout.{filter}={value}: rollout.{filter}: samples to train on must come", problem);
        Assert.EndsWith($"evaluation.{filter} filters evaluations", problem);
        Load($"evaluation.{filter}={value}");
    }

    [Fact]
    public void Evaluation_reports_no_more_samples_than_it_has()
    {
        Assert.Equal(
            "--set evaluation.pass_at=[1, 9]: evaluation.pass_at.1: 9 samples are more than the 8 of each problem "
                + "(evaluation.samples at --set evaluation.samples=8)",
            Problem("evaluation.samples=8", "evaluation.pass_at=[1, 9]")
        );
        Assert.Contains("must be at least 1", Problem("evaluation.majority_at=[0]"));
        Assert.Contains("2 is given twice", Problem("evaluation.samples=8", "evaluation.majority_at=[2, 4, 2]"));
        Assert.Equal([8], Load("evaluation.samples=8").Evaluation.PassAtOrDefault);
        Assert.Empty(Load().Evaluation.MajorityAtOrDefault);
    }

    [Fact]
    public void Best_checkpoint_needs_held_out_problems_and_a_metric_of_their_evaluation()
    {
        const string best = "checkpoint={keep_best: evaluation_pass_at_4, best_is: lowest}";
        Assert.Contains(
            "evaluations have no metric 'evaluation_pass_at_4'; there are evaluation_accuracy",
            Problem(best)
        );
        Assert.Equal("evaluation_pass_at_4", Load("evaluation.samples=4", best).Checkpoint.KeepBest);
        Assert.Contains(
            "no held-out problems that a checkpoint could be the best on",
            Problem("data.evaluation=", "checkpoint.keep_best=evaluation_accuracy")
        );
    }

    [Fact]
    public void Best_checkpoint_may_be_that_of_one_set()
    {
        const string two =
            "data.evaluation=[{generator: arithmetic, count: 5}, {generator: arithmetic, count: 6, seed: 3, name: hard}]";
        const string best = "checkpoint.keep_best=evaluation_accuracy/hard";
        Assert.Equal("evaluation_accuracy/hard", Load(two, best).Checkpoint.KeepBest);
        Assert.Contains(
            "evaluation_accuracy/arithmetic",
            Problem(two, "checkpoint.keep_best=evaluation_accuracy/easy")
        );
        Assert.Contains("evaluations have no metric 'evaluation_accuracy/hard'", Problem(best));
        Assert.Contains(
            "'arithmetic_low' would have the metrics of another set's interval",
            Problem(two, "data.evaluation.sources.1.name=arithmetic_low")
        );
    }
}
