using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Results;

namespace SimpleR1.Training.Sweeps;

/// <summary>One run of a sweep.</summary>
/// <param name="Name">The run's name: the recipe's, with the keys and values of the sweep.</param>
/// <param name="Overrides">All overrides of the recipe: the command line's, the sweep's and the name.</param>
public sealed record SweepRun(string Name, IReadOnlyList<string> Overrides)
{
    /// <summary>
    /// What to do with the run's folder. A sweep that is resumed starts runs that have not begun, and leaves finished
    /// ones alone.
    /// </summary>
    /// <param name="recipe">Path of the sweep's recipe.</param>
    /// <param name="runsFolder">Folder that holds the run's folder.</param>
    /// <param name="asked">What to do with the sweep.</param>
    /// <returns>Null when the run is finished.</returns>
    /// <exception cref="RecipeException">The recipe is wrong.</exception>
    public ExistingRun? StartOf(string recipe, string runsFolder, ExistingRun asked)
    {
        if (asked != ExistingRun.Resume)
            return asked;
        string folder = Path.Combine(runsFolder, Name);
        if (!File.Exists(Path.Combine(folder, "recipe.yaml")))
            return ExistingRun.Refuse; // nothing has begun that could be replaced
        var run = RunFolder.Find(runsFolder, Name, ExistingRun.Resume);
        return IsFinished(run, RecipeFile.Load<TrainRecipe>(recipe, Overrides)) ? null : ExistingRun.Resume;
    }

    /// <summary>A run ends with its last checkpoint and, where it has held-out problems, their evaluation.</summary>
    private static bool IsFinished(RunFolder run, TrainRecipe recipe)
    {
        if (!File.Exists(run.Metrics))
            return false;
        var metrics = RunMetrics.Read(run.Metrics);
        int steps = metrics.Steps;
        if (steps < recipe.Training.Steps || !Directory.Exists(Checkpoints.Folder(run, steps)))
            return false;
        var evaluations = metrics.Points(new ResultOptions().Metric, RunAxis.Step);
        return recipe.Data.Evaluation is null || evaluations.Any(e => e.Step == steps);
    }
}
