using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Runs;

/// <summary>What to do when a run's folder is there already.</summary>
public enum ExistingRun
{
    Refuse,
    Resume,
    Overwrite,
}

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

    /// <summary>All answers of each evaluation, as rollouts.</summary>
    public string Evaluations => In("evaluations");
    public string Plot => In("plot.png");

    /// <summary>Logs of the run's worker processes.</summary>
    public string Logs => In("logs");

    private RunFolder(string path) => Path = path;

    /// <summary>Where a run's folder is or will be; checks that it can be used as asked, and touches nothing.</summary>
    /// <exception cref="IOException">It exists and nothing was said, it does not and should be resumed, or it is no run's folder.</exception>
    public static RunFolder Find(string root, string name, ExistingRun existing = ExistingRun.Refuse)
    {
        var run = new RunFolder(System.IO.Path.GetFullPath(System.IO.Path.Combine(root, name)));
        bool there = File.Exists(run.Recipe); // written when everything else of a run has started
        if (!there && !run.HoldsOnlyLeftovers())
            throw new IOException(
                $"{run.Path}: holds files but no recipe.yaml, so it is not a run's folder; it will not be overwritten. Choose another name with --set name=..."
            );
        if (there && existing == ExistingRun.Refuse)
            throw new IOException(
                $"{run.Path}: a run of this name exists. Continue it with --resume, replace it with --overwrite, or choose another with --set name=..."
            );
        if (!there && existing == ExistingRun.Resume)
            throw new IOException($"{run.Path}: no run of this name to resume; start it without --resume");
        return run;
    }

    /// <summary>Makes a new run's folder, or opens one that is there, as asked.</summary>
    /// <inheritdoc cref="Find" path="/exception"/>
    public static RunFolder Open(string root, string name, ExistingRun existing = ExistingRun.Refuse)
    {
        var run = Find(root, name, existing);
        if (existing != ExistingRun.Resume && Directory.Exists(run.Path))
            Directory.Delete(run.Path, recursive: true);
        Directory.CreateDirectory(run.Checkpoints);
        return run;
    }

    /// <summary>Keeps other processes from training into this folder until disposed. The lock ends with the process, however that ends.</summary>
    /// <exception cref="IOException">Another process has it.</exception>
    public IDisposable Lock()
    {
        string path = Path + ".lock";
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(path)!);
        try
        {
            return new FileStream(
                path,
                FileMode.OpenOrCreate,
                FileAccess.ReadWrite,
                FileShare.None,
                1,
                FileOptions.DeleteOnClose
            );
        }
        catch (IOException e) when (File.Exists(path))
        {
            throw new IOException(
                $"{Path}: another process is training this run ({path} is locked). Wait for its end or stop it with Ctrl-C.",
                e
            );
        }
    }

    /// <summary>Nothing, or what a start that failed leaves behind.</summary>
    private bool HoldsOnlyLeftovers() =>
        !Directory.Exists(Path)
        || Directory
            .EnumerateFileSystemEntries(Path)
            .All(entry =>
                entry == Metrics
                || entry == Samples
                || entry == Events
                || entry == Logs
                || entry == Checkpoints && !Directory.EnumerateFileSystemEntries(entry).Any()
            );

    /// <summary>Writes the resolved recipe.</summary>
    public void WriteRecipe(object recipe) => File.WriteAllText(Recipe, RecipeFile.Write(recipe));

    /// <summary>Files and folders of the run that exist, relative to the working directory when they are inside it.</summary>
    /// <param name="step">Names the checkpoint to list.</param>
    public IReadOnlyList<string> Written(int step)
    {
        string[] all = [Recipe, Metrics, Samples, Evaluations, Plot, Events, Runs.Checkpoints.Folder(this, step), Logs];
        return [.. all.Where(System.IO.Path.Exists).Select(Shortest)];
    }

    private static string Shortest(string path)
    {
        string relative = System.IO.Path.GetRelativePath(Environment.CurrentDirectory, path);
        return relative.StartsWith("..", StringComparison.Ordinal) ? path : relative;
    }

    private string In(string name) => System.IO.Path.Combine(Path, name);
}
