using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs.Fingerprints;

namespace SimpleR1.Training.Runs.Results;

/// <summary>A run as its folder has it: finished, interrupted or in progress.</summary>
public sealed record RecordedRun
{
    /// <summary>Keys in which runs of one recipe may differ.</summary>
    private static readonly string[] OfTheRun = ["name", "seed"];

    /// <summary>The folder's name, without the folders above it.</summary>
    public required string Name { get; init; }
    public required ulong Seed { get; init; }

    /// <summary>Every key of the resolved recipe with its value as YAML, but name and seed.</summary>
    public required IReadOnlyDictionary<string, string> Recipe { get; init; }
    public required RunMetrics Metrics { get; init; }

    /// <summary>Program and machine of each session; none where an older program made the run.</summary>
    public required IReadOnlyList<RunOrigin> Sessions { get; init; }

    /// <summary>Reads a run's folder.</summary>
    /// <exception cref="FileNotFoundException">The folder is no run's.</exception>
    /// <exception cref="RecipeException">This program can't read the run's recipe.</exception>
    public static RecordedRun Read(string path)
    {
        string folder = Path.TrimEndingDirectorySeparator(Path.GetFullPath(path));
        string recipePath = Path.Combine(folder, "recipe.yaml");
        if (!File.Exists(recipePath))
            throw new FileNotFoundException(
                $"{path}: no recipe.yaml; expected the folder of a run that has started, such as runs/quickstart",
                recipePath
            );
        var recipe = RecipeFile.Load<TrainRecipe>(recipePath);
        return new()
        {
            Name = Path.GetFileName(folder),
            Seed = recipe.Seed,
            Recipe = RecipeValues.Of(recipe).Where(p => !OfTheRun.Contains(p.Key)).ToDictionary(),
            Metrics = RunMetrics.Read(Path.Combine(folder, "metrics.jsonl")),
            Sessions = RunOrigin.Read(Path.Combine(folder, "sessions.jsonl")),
        };
    }
}
