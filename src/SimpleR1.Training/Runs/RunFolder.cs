namespace SimpleR1.Training;

/// <summary>What to do when a run's folder is there already.</summary>
public enum ExistingRun { Refuse, Resume, Overwrite }

/// <summary>A run's folder, <c>runs/NAME</c>, and where everything in it is.</summary>
public sealed class RunFolder
{
    public string Path { get; }
    public string Name => System.IO.Path.GetFileName(Path);
    /// <summary>The recipe with every default and override filled in.</summary>
    public string Recipe => In("recipe.yaml");
    public string Metrics => In("metrics.jsonl");
    public string Samples => In("samples.jsonl");
    /// <summary>TensorBoard event files.</summary>
    public string Events => In("events");
    public string Checkpoints => In("checkpoints");
    public string Plot => In("plot.png");

    private RunFolder(string path) => Path = path;

    /// <summary>Makes a new run's folder, or opens one that is there, as asked.</summary>
    /// <exception cref="IOException">It exists and nothing was said, or it does not and should be resumed.</exception>
    public static RunFolder Open(string root, string name, ExistingRun existing = ExistingRun.Refuse)
    {
        var run = new RunFolder(System.IO.Path.GetFullPath(System.IO.Path.Combine(root, name)));
        bool there = Directory.Exists(run.Path) && Directory.EnumerateFileSystemEntries(run.Path).Any();
        if (there && existing == ExistingRun.Refuse)
            throw new IOException($"{run.Path}: a run of this name exists. Continue it with --resume, replace it with --overwrite, or choose another with --set name=...");
        if (there && existing == ExistingRun.Overwrite)
        {
            if (!File.Exists(run.Recipe)) throw new IOException($"{run.Path}: holds no recipe.yaml, so it is not a run's folder; it will not be overwritten");
            Directory.Delete(run.Path, recursive: true);
        }
        if (!there && existing == ExistingRun.Resume) throw new IOException($"{run.Path}: no run of this name to resume; start it without --resume");
        Directory.CreateDirectory(run.Checkpoints);
        return run;
    }

    /// <summary>Writes the resolved recipe.</summary>
    public void WriteRecipe(object recipe) => File.WriteAllText(Recipe, RecipeFile.Write(recipe));

    private string In(string name) => System.IO.Path.Combine(Path, name);
}
