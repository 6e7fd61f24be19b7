using SimpleR1.Training.Recipes;
using SimpleR1.Training.Recipes.Sections;
using Xunit;

namespace SimpleR1.Tests.Training.Recipes;

/// <summary>Recipes that extend another.</summary>
public sealed class ExtendedRecipeTests : IDisposable
{
    private const string Base = """
        name: base
        model: {path: models/tiny, template: plain}
        data:
          train: {path: train.jsonl, format: gsm8k}
          evaluation: {path: test.jsonl, take: 10}
        rewards:
          - {name: accuracy}
          - {name: format, weight: 0.5}
        optimizer: {learning_rate: 1e-6, warmup_steps: 5}
        training: {steps: 7}
        """;

    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-extends-").FullName;

    public ExtendedRecipeTests() => Write("base.yaml", Base);

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private string Write(string name, string text)
    {
        string path = Path.Combine(folder, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
        return path;
    }

    private TrainRecipe Load(string text, params string[] overrides) =>
        RecipeFile.Load<TrainRecipe>(Write("r.yaml", text), overrides);

    private string[] Problems(string text, params string[] overrides) =>
        [
            .. Assert
                .Throws<RecipeException>(() => Load(text, overrides))
                .Problems.Select(p => p.ToString().Replace(folder + "/", "", StringComparison.Ordinal)),
        ];

    [Fact]
    public void Sections_are_merged_and_lists_and_values_replaced()
    {
        var recipe = Load(
            """
            extends: base.yaml
            name: mine
            model: {template: chat}
            optimizer:
              learning_rate: 2e-6
            rewards: [{name: accuracy, accept_last_number: true}]
            rollout: {temperature: 0.9}
            """
        );
        Assert.Equal(("mine", "models/tiny", "chat"), (recipe.Name, recipe.Model.Path, recipe.Model.Template));
        Assert.Equal((2e-6, 5), (recipe.Optimizer.LearningRate, recipe.Optimizer.WarmupSteps));
        Assert.Equal([new RewardSection { Name = "accuracy", AcceptLastNumber = true }], recipe.Rewards);
        Assert.Equal((0.9, 7), (recipe.Rollout.Temperature, recipe.Training.Steps));
        Assert.Equal(10, recipe.Data.Evaluation!.Take);
        string resolved = RecipeFile.Write(recipe);
        Assert.DoesNotContain("extends", resolved);
        Assert.Equal(recipe, RecipeFile.Parse<TrainRecipe>(resolved, "resolved.yaml"));
    }

    [Fact]
    public void Key_without_a_value_takes_back_what_the_base_gave()
    {
        var recipe = Load(
            """
            extends: base.yaml
            data:
              train: {path: , format: null, generator: arithmetic, count: 100}
              evaluation:
            optimizer:
            training: {steps: ~}
            """
        );
        Assert.Equal(new() { Generator = "arithmetic", Count = 100 }, recipe.Data.Train);
        Assert.Null(recipe.Data.Evaluation);
        Assert.Equal(new(), recipe.Optimizer);
        Assert.Equal(new TrainingSection().Steps, recipe.Training.Steps);

        // What the base has not is as empty as in any recipe
        Assert.Contains(
            "r.yaml:2: rollout.temperature: expected a number, found nothing",
            Problems("extends: base.yaml\nrollout: {temperature: }")
        );
        Assert.StartsWith("name: missing", Assert.Single(Problems("extends: base.yaml\nname:")).Split("r.yaml: ")[1]);
    }

    [Fact]
    public void List_in_place_of_a_section_replaces_the_section_and_the_other_way_round()
    {
        const string two = """
            extends: base.yaml
            data:
              train: [{path: a.jsonl}, {generator: arithmetic, count: 5}]
            workers: [vllm://a:1]
            """;
        var recipe = Load(two, "data.train.sources.1.count=6");
        Assert.Equal(["a.jsonl", null], recipe.Data.Train.Sources.Select(s => s.Path));
        Assert.Null(recipe.Data.Train.Path);
        Assert.Equal(6, recipe.Data.Train.Sources[1].Count);

        Write("two.yaml", two);
        recipe = Load("extends: two.yaml\ndata: {train: {path: b.jsonl}}\nworkers: {count: 3}");
        Assert.Equal(new() { Path = "b.jsonl" }, recipe.Data.Train);
        Assert.Equal(new() { Count = 3 }, recipe.Workers);
    }

    [Fact]
    public void Chain_of_recipes_in_several_folders_is_merged_from_its_end()
    {
        Write("deep/middle.yaml", "extends: ../base.yaml\nmodel: {path: models/middle}\nseed: 5\ntraining: {steps: 8}");
        var recipe = Load("extends: deep/middle.yaml\nseed: 6", "training.steps=9");
        Assert.Equal("base", recipe.Name);
        Assert.Equal(("models/middle", 6ul, 9), (recipe.Model.Path, recipe.Seed, recipe.Training.Steps));
        Assert.Equal("train.jsonl", recipe.Data.Train.Path); // of the working directory, not of the base's
    }

    [Fact]
    public void Problems_name_the_file_and_line_of_the_value()
    {
        Write("base.yaml", Base.Replace("steps: 7", "steps: many", StringComparison.Ordinal));
        Assert.Equal(
            [
                "base.yaml:10: training.steps: expected a whole number, found 'many'",
                "r.yaml:3: optimizer.beta3: unknown key; did you mean 'beta1'?",
                "base.yaml:4: data.train.path: 'path' and 'generator' exclude each other; keep one "
                    + "(data.train.generator at r.yaml:2)",
            ],
            Problems("extends: base.yaml\ndata: {train: {generator: arithmetic, count: 5}}\noptimizer: {beta3: 1}")
                .Order(StringComparer.Ordinal)
                .OrderBy(p => Array.FindIndex(["steps", "beta3", "path"], p.Contains))
        );
    }

    [Theory]
    [InlineData("extends: nowhere.yaml", "r.yaml:1: extends: recipe not found: nowhere.yaml")]
    [InlineData("name: a\nextends: [base.yaml]", "r.yaml:2: extends: expected the path of a recipe, found a list of 1")]
    [InlineData("extends:", "r.yaml:1: extends: expected the path of a recipe, found nothing")]
    [InlineData("extends: r.yaml", "r.yaml:1: extends: a recipe can't extend itself: r.yaml → r.yaml")]
    [InlineData(
        "extends: loop/a.yaml",
        "loop/b.yaml:2: extends: a recipe can't extend itself: r.yaml → loop/a.yaml → loop/b.yaml → loop/../loop/a.yaml"
    )]
    [InlineData("extends: list.yaml", "list.yaml:1: expected a recipe with keys such as 'name:', found a list of 1")]
    [InlineData("extends: broken.yaml", "broken.yaml:")]
    [InlineData("extends: base.yaml\nmodel: {extends: base.yaml}", "r.yaml:2: model.extends: unknown key")]
    public void Base_that_cannot_be_extended_is_a_mistake_with_its_line(string text, string expected)
    {
        Write("loop/a.yaml", "extends: b.yaml");
        Write("loop/b.yaml", "name: b\nextends: ../loop/a.yaml");
        Write("list.yaml", "- a");
        Write("broken.yaml", "a: [1,\nb: }");
        Assert.StartsWith(expected, Assert.Single(Problems(text)));
    }

    [Fact]
    public void Recipe_of_text_extends_another_as_well()
    {
        Write(
            "sft.yaml",
            "name: a\nmodel: {path: m}\ndata: {train: {path: a.jsonl}}\noutput: out\ntraining: {steps: 3, sequence_length: 64}"
        );
        var recipe = RecipeFile.Load<SftRecipe>(Write("b.yaml", "extends: sft.yaml\ntraining: {steps: 4}"));
        Assert.Equal(("out", 4, 64), (recipe.Output, recipe.Training.Steps, recipe.Training.SequenceLength));
    }
}
