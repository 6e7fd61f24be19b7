using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Files;

namespace SimpleR1.Training.Supervised;

/// <summary>The folder of the trained model. It is written once, whole, after the last step.</summary>
internal static class SftOutput
{
    /// <summary>Checks that the model may be written, and can be: now, not after hours of training.</summary>
    /// <exception cref="IOException">
    /// The folder holds something that this run has not written and may not replace, or it can't be made.
    /// </exception>
    public static void Require(SftRecipe recipe, RunFolder run, ExistingRun existing)
    {
        bool isFree = !Directory.Exists(recipe.Output) || !Directory.EnumerateFileSystemEntries(recipe.Output).Any();
        bool mayReplace =
            existing == ExistingRun.Overwrite || existing == ExistingRun.Resume && IsOutputOf(run, recipe.Output);
        if (File.Exists(recipe.Output))
            throw new IOException($"{recipe.Output}: is a file; give a folder with --set output=...");
        if (!isFree && !mayReplace)
            throw new IOException(
                $"{recipe.Output}: the folder is not empty, and the trained model would replace it. Give another one "
                    + "with --set output=..., or replace it after the last step with --overwrite"
            );
        RequireWritable(recipe.Output);
    }

    /// <summary>Writes the model in place of what the folder held.</summary>
    public static void Write(SftRecipe recipe, FlatWeights weights, ModelFiles files) =>
        AtomicFolder.Write(
            recipe.Output,
            temporary =>
            {
                Checkpoint.Write(temporary, weights, recipe.Training.WeightType, files.Folder);
                files.Template.WriteTo(temporary, files.Tokenizer);
            }
        );

    /// <summary>True when the run that is resumed was started with this output, and so was allowed to replace it.</summary>
    private static bool IsOutputOf(RunFolder run, string output) =>
        File.Exists(run.Recipe)
        && Path.GetFullPath(RecipeFile.Load<SftRecipe>(run.Recipe).Output) == Path.GetFullPath(output);

    private static void RequireWritable(string folder)
    {
        string parent = Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder)))!;
        string probe = Path.Combine(parent, $".{Path.GetFileName(folder)}.{Guid.NewGuid():N}");
        try
        {
            Directory.CreateDirectory(parent);
            Directory.CreateDirectory(probe);
            Directory.Delete(probe);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new IOException($"{folder}: can't be written: {e.Message}", e);
        }
    }
}
