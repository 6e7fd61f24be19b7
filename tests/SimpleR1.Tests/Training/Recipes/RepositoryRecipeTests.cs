using SimpleR1.Training.Planning;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;
using Xunit;

namespace SimpleR1.Tests.Training.Recipes;

/// <summary>The recipes of the repository, as far as they can be checked without their models and data.</summary>
public sealed class RepositoryRecipeTests : IDisposable
{
    private static readonly string Root = SharedData.RepositoryRoot;

    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-recipes-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    public static TheoryData<string> TrainRecipes =>
        [
            .. Directory
                .EnumerateFiles(Path.Combine(Root, "recipes"), "*.yaml")
                .Select(Path.GetFileName)
                .OfType<string>()
                .Where(name => name != "tiny-base.yaml") // trains on text
                .Order(StringComparer.Ordinal),
        ];

    private static string In(string recipe) => Path.Combine(Root, "recipes", recipe);

    [Theory, MemberData(nameof(TrainRecipes))]
    public void Recipe_with_a_tiny_model_and_a_few_rows_is_planned_without_a_mistake(string name)
    {
        TinyModels.WriteFolder(Path.Combine(folder, "model"));
        var recipe = RecipeFile.Load<TrainRecipe>(In(name));
        string plan = TrainPlan.Describe(
            In(name),
            [
                .. TinyRecipes.Overrides(recipe, Path.Combine(folder, "model")),
                $"model.max_context={4 * recipe.Model.MaxContext}", // a prompt has a token for each byte
                "training.tokens_per_micro_batch=",
                .. recipe.Model.Path.StartsWith("recipes/", StringComparison.Ordinal)
                    ? new[] { $"model.path={Path.Combine(Root, recipe.Model.Path)}" }
                    : [],
                .. recipe.Rewards.SelectMany(
                    (r, i) =>
                        r.File is null ? Array.Empty<string>() : [$"rewards.{i}.file={Path.Combine(Root, r.File)}"]
                ),
            ],
            new(Path.Combine(folder, "runs"), ExistingRun.Refuse, new(_ => { }, _ => { }, _ => { }))
        );
        Assert.Contains($"{recipe.Training.Steps} steps of {recipe.Rollout.PromptsPerStep} prompts", plan);
    }

    /// <summary>A run's name is its recipe's: two recipes don't write into one folder.</summary>
    [Theory, MemberData(nameof(TrainRecipes))]
    public void Recipe_has_the_name_of_its_file_and_a_line_in_the_readme(string name)
    {
        Assert.Equal(Path.GetFileNameWithoutExtension(name), RecipeFile.Load<TrainRecipe>(In(name)).Name);
        Assert.Contains($"\n{name} ", File.ReadAllText(In("README.md")));
        if (name != "quickstart.yaml")
            Assert.Contains("\n#   simple-r1 ", File.ReadAllText(In(name)));
    }

    [Fact]
    public void Zero_shot_recipe_differs_from_the_one_that_it_extends_in_its_template_only()
    {
        var zero = RecipeFile.Load<TrainRecipe>(In("gsm8k-qwen2.5-0.5b-zero-shot.yaml"));
        var one = RecipeFile.Load<TrainRecipe>(In("gsm8k-qwen2.5-0.5b.yaml"));
        Assert.Equal("r1-zero", zero.Model.Template);
        Assert.Equal(one, zero with { Name = one.Name, Model = zero.Model with { Template = one.Model.Template } });
    }
}
