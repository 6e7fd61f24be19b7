using SimpleR1.Training.Recipes;
using SimpleR1.Training.Recipes.Sections;
using Xunit;

namespace SimpleR1.Tests.Training;

/// <summary>Values given on the command line, and sections that take over the keys of others.</summary>
public sealed class RecipeOverrideTests
{
    private const string Good = """
        name: tiny
        model: {path: models/tiny}
        data:
          train: {generator: arithmetic, count: 100}
        rewards:
          - name: accuracy
          - {name: format, weight: 0.5}
        """;

    private static TrainRecipe Parse(string text, params string[] overrides) =>
        RecipeFile.Parse<TrainRecipe>(text, "r.yaml", overrides);

    private static string[] Problems(string text, params string[] overrides) =>
        [.. Assert.Throws<RecipeException>(() => Parse(text, overrides)).Problems.Select(p => p.ToString())];

    [Fact]
    public void Overrides_set_values_sections_and_list_items_in_order()
    {
        var recipe = Parse(
            Good,
            "optimizer.learning_rate=1e-3",
            "optimizer.learning_rate=2e-3",
            "rewards.0.weight=2",
            "rewards.2={name: countdown}",
            "rollout.stop=[\"</answer>\", x]",
            "data.evaluation.generator=countdown",
            "data.evaluation.count=5",
            "algorithm.loss_average=constant-length",
            "model.system=a = b"
        );
        Assert.Equal(2e-3, recipe.Optimizer.LearningRate);
        Assert.Equal([2, 0.5, 1], recipe.Rewards.Select(r => r.Weight));
        Assert.Equal(["</answer>", "x"], recipe.Rollout.Stop);
        Assert.Equal("countdown", recipe.Data.Evaluation!.Generator);
        Assert.Equal(LossAverage.ConstantLength, recipe.Algorithm.LossAverage);
        Assert.Equal("a = b", recipe.Model.System);
    }

    [Theory]
    [InlineData("steps", "--set steps: expected key.path=value")]
    [InlineData("training.stepz=3", "--set training.stepz=3: training.stepz: unknown key; did you mean 'steps'?")]
    [InlineData(
        "training.steps=many",
        "--set training.steps=many: training.steps: expected a whole number, found 'many'"
    )]
    [InlineData("rewards.7.weight=1", "--set rewards.7.weight=1: rewards: expected an index from 0 to 2")]
    [InlineData("rollout.stop={a", "--set rollout.stop={a: not valid YAML")]
    [InlineData("name.x=1", "--set name.x=1: name: has no keys below it: it is 'tiny' (r.yaml:1)")]
    [InlineData("rollout.stop=[", "--set rollout.stop=[: not valid YAML")]
    public void Overrides_with_an_error_name_the_override(string setting, string expected) =>
        Assert.StartsWith(expected, Assert.Single(Problems(Good, setting)));

    /// <summary>A key that takes text takes it as it stands; quotes have YAML's meaning.</summary>
    [Theory]
    [InlineData("{Body} {Question}", "{Body} {Question}")]
    [InlineData("{Body}", "{Body}")]
    [InlineData("Q: {question} # 1", "Q: {question} # 1")]
    [InlineData("[a, b", "[a, b")]
    [InlineData("- a: b", "- a: b")]
    [InlineData("*x &y !z", "*x &y !z")]
    [InlineData("\"Q: {question}\\nA:\"", "Q: {question}\nA:")]
    [InlineData("'it''s'", "it's")]
    [InlineData("'tis {question}", "'tis {question}")]
    [InlineData("\"{Body}\" {Question}", "\"{Body}\" {Question}")]
    [InlineData("5", "5")]
    [InlineData("", null)]
    [InlineData("null", null)]
    public void Overrides_of_text_take_it_as_it_stands(string value, string? expected)
    {
        var recipe = Parse(Good, "data.train.columns.question=" + value, "model.system=" + value);
        Assert.Equal(expected, recipe.Data.Train.Columns.Question);
        Assert.Equal(expected, recipe.Model.System);
        Assert.Equal("a: b", Parse(Good, "rollout.stop=[x]", "rollout.stop.0=a: b").Rollout.Stop[0]);
        Assert.Equal("a: b", Parse(Good, "rewards.0.file=a: b").Rewards[0].File);
    }

    [Fact]
    public void Merge_keys_take_over_the_keys_of_other_sections_and_an_override_of_one_leaves_the_other()
    {
        const string text = """
            name: tiny
            model: {path: models/tiny}
            data:
              train: &problems
                path: a.jsonl
                columns: {question: q, answer: a}
                take: 100
              evaluation:
                take: 10
                <<: *problems
                skip: 100
            rewards: [{name: accuracy}]
            """;
        var recipe = Parse(text, "data.evaluation.columns.question=other");
        var evaluation = recipe.Data.Evaluation!;
        Assert.Equal(("a.jsonl", 10, 100), (evaluation.Path, evaluation.Take, evaluation.Skip));
        Assert.Equal(("other", "a"), (evaluation.Columns.Question, evaluation.Columns.Answer));
        Assert.Equal("q", recipe.Data.Train.Columns.Question);
        string problem = Problems(text.Replace("a.jsonl", "a.docx"))[1];
        Assert.StartsWith("r.yaml:5: data.evaluation.path: expected a folder, or a file of .jsonl", problem);
        Assert.EndsWith("found 'a.docx'", problem);
        Assert.Contains("<<: expected a section", Assert.Single(Problems(Good + "\ntraining:\n  <<: 5")));
    }

    [Theory]
    [InlineData("rewards=random", "random")]
    [InlineData("rewards=[format, accuracy]", "format accuracy")]
    [InlineData("rewards=[{name: format, weight: 0.5}, accuracy]", "format accuracy")]
    [InlineData("rewards.0=random", "random format")]
    [InlineData("rewards.2=countdown", "accuracy format countdown")]
    public void Names_of_rewards_stand_for_sections(string setting, string names) =>
        Assert.Equal(names, string.Join(' ', Parse(Good, setting).Rewards.Select(r => r.Name)));

    [Fact]
    public void Unknown_name_of_a_reward_has_its_place()
    {
        var problem = Assert.Single(
            Assert.Throws<RecipeException>(() => Parse(Good, "rewards=[accuracy, radnom]")).Problems
        );
        Assert.Equal("rewards.1.name", problem.Key);
        Assert.Contains("did you mean 'random'?", problem.Message);
    }
}
