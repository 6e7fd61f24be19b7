using System.Text;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs.Results;

namespace SimpleR1.Training.Sweeps;

/// <summary>The runs of a sweep: a recipe with every combination of some keys' values.</summary>
public sealed record SweepGrid(string Name, string Recipe, IReadOnlyList<SweepRun> Runs)
{
    /// <summary>Bytes of a file's name on Linux, less what is added to it beside the run's folder.</summary>
    private const int LongestName = 240;

    /// <summary>Reads a sweep. Its runs are in the order of the values; the last key changes from run to run.</summary>
    /// <param name="recipe">Path of the recipe.</param>
    /// <param name="overrides">Of all runs, such as <c>training.steps=100</c>.</param>
    /// <param name="sweeps">Keys with values, such as <c>seed=1,2,3</c>.</param>
    /// <exception cref="ArgumentException">A key has no values, or two runs would have the same name.</exception>
    /// <exception cref="FileNotFoundException">There is no such recipe.</exception>
    public static SweepGrid Read(string recipe, IReadOnlyList<string> overrides, IReadOnlyList<string> sweeps)
    {
        SweepKey[] keys = [.. sweeps.Select(SweepKey.Parse)];
        if (keys.CountBy(k => k.Key).FirstOrDefault(c => c.Value > 1).Key is { } twice)
            throw new ArgumentException($"--sweep {twice} is given twice; give all its values in one");
        var names = KeyNames.Of([.. keys.Select(k => k.Key)]);
        var combinations = Combinations(keys);
        string name = NameOf(recipe, [.. overrides, .. combinations[0].Select(Setting)]);
        SweepRun[] runs =
        [
            .. combinations.Select(combination =>
            {
                var parts = combination.Select(v => $"{names[v.Key]}={v.Value}");
                string run = FolderName(string.Join('-', parts.Prepend(name)));
                return new SweepRun(run, [.. overrides, .. combination.Select(Setting), $"name={run}"]);
            }),
        ];
        Check(runs);
        return new(name, recipe, runs);
    }

    /// <summary>Checks all runs, with all that their recipes name, before the first starts.</summary>
    /// <param name="options">Of all runs.</param>
    /// <exception cref="RecipeException">It has the problems of all runs, each once.</exception>
    public void Check(ExperimentOptions options)
    {
        var problems = new List<RecipeProblem>();
        foreach (var run in Runs)
        {
            try
            {
                if (run.StartOf(Recipe, options.RunsFolder, options.Existing) is { } existing)
                    ExperimentInput.Load(
                        RecipeFile.Read<TrainRecipe>(Recipe, run.Overrides),
                        options with
                        {
                            Existing = existing,
                        }
                    );
            }
            catch (RecipeException e)
            {
                problems.AddRange(e.Problems);
            }
        }
        if (problems.Count > 0)
            throw new RecipeException(Recipe, [.. problems.Distinct()]);
    }

    private static List<(string Key, string Value)[]> Combinations(SweepKey[] keys)
    {
        List<(string, string)[]> combinations =
        [
            [],
        ];
        foreach (var key in keys)
            combinations = [.. combinations.SelectMany(c => key.Values.Select(v => c.Append((key.Key, v)).ToArray()))];
        return combinations;
    }

    private static string Setting((string Key, string Value) value) => $"{value.Key}={value.Value}";

    /// <summary>The recipe's own name; what is wrong with the recipe is reported later, with all else.</summary>
    private static string NameOf(string recipe, IReadOnlyList<string> overrides)
    {
        string name = RecipeFile.Read<TrainRecipe>(recipe, overrides).Recipe.Name;
        return string.IsNullOrWhiteSpace(name) ? "sweep" : name;
    }

    /// <summary>A value keeps its text, but for what no name of a folder can hold.</summary>
    private static string FolderName(string text) =>
        string.Concat(text.Select(c => c is '/' or '\\' || char.IsControl(c) ? '_' : c));

    private static void Check(SweepRun[] runs)
    {
        if (runs.CountBy(r => r.Name).FirstOrDefault(c => c.Value > 1).Key is { } twice)
            throw new ArgumentException($"--sweep: two runs would have the name {twice}");
        if (runs.FirstOrDefault(r => Encoding.UTF8.GetByteCount(r.Name) > LongestName) is { } longest)
            throw new ArgumentException($"--sweep: the name {longest.Name} is too long for a folder");
    }
}
