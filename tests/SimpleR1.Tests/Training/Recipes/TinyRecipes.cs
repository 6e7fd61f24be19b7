using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Tests.Training.Recipes;

/// <summary>Recipes for real models and data sets, with a tiny model and a few rows of the same layout in their place.</summary>
internal static class TinyRecipes
{
    /// <summary>Rows by the folder and file, or the folder, of a recipe's path.</summary>
    private static readonly Dictionary<string, string> Rows = new()
    {
        ["train.jsonl"] = "gsm8k-train.jsonl",
        ["gsm8k/train.jsonl"] = "gsm8k-train.jsonl",
        ["gsm8k/test.jsonl"] = "gsm8k-test.jsonl",
        ["svamp/test.jsonl"] = "svamp.jsonl",
        ["math/train.jsonl"] = "aime24-hub.jsonl",
        ["math500/test.jsonl"] = "math500.jsonl",
        ["aime24/test.jsonl"] = "aime24.jsonl",
    };

    /// <summary>A file of rows in the layout of a data set.</summary>
    public static string RowsOf(string name) => Path.Combine(SharedData.RepositoryRoot, "tests", "data", "rows", name);

    /// <summary>The values that put a model and rows in the place of those of a recipe.</summary>
    /// <param name="model">Folder of the model.</param>
    public static IEnumerable<string> Overrides(TrainRecipe recipe, string model)
    {
        if (!recipe.Model.Path.StartsWith("recipes/", StringComparison.Ordinal))
            yield return $"model.path={model}";
        foreach (string value in Overrides("data.train", recipe.Data.Train))
            yield return value;
        foreach (string value in recipe.Data.Evaluation is { } held ? Overrides("data.evaluation", held) : [])
            yield return value;
    }

    private static IEnumerable<string> Overrides(string key, DataSource source)
    {
        int sources = DataMix.Named(source).Count;
        for (int i = 0; i < sources; i++)
        {
            string at = source.Sources.Count > 0 ? $"{key}.sources.{i}" : key;
            string? path = source.Sources.Count > 0 ? source.Sources[i].Path : source.Path;
            if (path is null)
                continue;
            string rows = Rows[path.StartsWith("data/", StringComparison.Ordinal) ? path["data/".Length..] : path];
            yield return $"{at}.path={RowsOf(rows)}";
            yield return $"{at}.take=";
        }
    }
}
