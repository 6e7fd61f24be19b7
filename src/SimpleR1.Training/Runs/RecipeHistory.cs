using System.Globalization;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Runs;

/// <summary>
/// The recipe of each session of a run, in <c>recipes/0001.yaml</c> and so on: a start and every resume is a session.
/// None is ever overwritten; <c>recipe.yaml</c> is the last one.
/// </summary>
internal static class RecipeHistory
{
    /// <summary>Keeps the resolved recipe of a session.</summary>
    /// <param name="step">The step that the session continues after; 0 for the start.</param>
    public static void Write(RunFolder run, object recipe, int step)
    {
        Directory.CreateDirectory(run.Recipes);
        if (Last(run) == 0 && File.Exists(run.Recipe))
            File.Copy(run.Recipe, FileOf(run, 1)); // of a program that kept only the last

        int session = Last(run) + 1;
        string text = $"# Session {session}, after step {step}.\n{RecipeFile.Write(recipe)}";
        using (var file = new FileStream(FileOf(run, session), FileMode.CreateNew))
            file.Write(System.Text.Encoding.UTF8.GetBytes(text));
        File.WriteAllText(run.Recipe, text);
    }

    private static int Last(RunFolder run) =>
        Directory
            .EnumerateFiles(run.Recipes, "????.yaml")
            .Select(path => int.TryParse(Path.GetFileNameWithoutExtension(path), out int session) ? session : 0)
            .DefaultIfEmpty()
            .Max();

    private static string FileOf(RunFolder run, int session) =>
        Path.Combine(run.Recipes, session.ToString("D4", CultureInfo.InvariantCulture) + ".yaml");
}
