using SimpleR1.Models;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Supervised;
using static System.FormattableString;

namespace SimpleR1.Training.Planning;

/// <summary>What training on text would do and need. Nothing is started, and nothing is written.</summary>
public static class SftPlan
{
    /// <summary>Checks a recipe and all that it names, as a run would, and describes the run in some lines.</summary>
    /// <param name="overrides">Such as <c>training.steps=100</c>.</param>
    /// <exception cref="RecipeException">It has all mistakes, with their lines.</exception>
    /// <exception cref="FileNotFoundException">There is no such recipe.</exception>
    public static string Describe(string path, IEnumerable<string> overrides, SftOptions options)
    {
        var checking = RecipeFile.Read<SftRecipe>(path, overrides);
        var input = SftInput.Load(checking, options);
        var recipe = checking.Recipe;
        var layout = new WeightLayout(input.Config);
        var plan = new PlanText();

        plan.Add("run", Path.Combine(options.RunsFolder, recipe.Name));
        plan.Add(
            "output",
            $"{recipe.Output}, written after the last step in {RecipeNames.Value(recipe.Training.WeightType)}"
        );
        plan.Add(
            "model",
            $"{recipe.Model.Path ?? "new"}: {input.Config.Family.Name}, {PlanText.Parameters(layout.ParameterCount)}, "
                + Invariant($"{input.Config.Layers} layers")
        );
        AddTexts(plan, recipe, input);

        plan.Add("trainer", input.Memory.Describe());
        plan.Add("a checkpoint", $"{PlanText.Bytes(input.Memory.Checkpoint)} of disk");
        return plan.ToString();
    }

    private static void AddTexts(PlanText plan, SftRecipe recipe, SftInput input)
    {
        long tokens = input.Texts.Sum(t => (long)t.Computed);
        long seen = (long)recipe.Training.Steps * recipe.Training.TokensPerBatch;
        plan.Add(
            "texts",
            $"{PlanText.Count(input.Texts.Length, "text")} of {tokens:N0} tokens"
                + (input.HeldOut is { } heldOut ? $"; {heldOut.Length:N0} held out" : "; none held out")
        );
        var first = input.Texts[0];
        plan.Add("first text", $"{PlanText.Count(first.Tokens.Length, "token")}, {first.Trained:N0} of them learned:");
        plan.Add("", input.Tokenizer.Decode(first.Tokens));
        plan.Add(
            "steps",
            $"{PlanText.Count(recipe.Training.Steps, "step")} of {recipe.Training.TokensPerBatch:N0} tokens, "
                + $"warm-up {recipe.Optimizer.WarmupIn(recipe.Training.Steps)}; "
                + Invariant($"each text {(double)seen / tokens:F1} times")
        );
    }
}
