using SimpleR1.Training.Runs.Files;

namespace SimpleR1.Training.Runs;

/// <summary>What to do when a run's folder exists.</summary>
public enum ExistingRun
{
    Refuse,
    Resume,
    Overwrite,
}

/// <summary>A run's folder, <c>runs/NAME</c>, and the paths of all in it.</summary>
public sealed class RunFolder
{
    public string Path { get; }
    public string Name => System.IO.Path.GetFileName(Path);

    /// <summary>The last session's recipe, with every default and override filled in.</summary>
    public string Recipe => In("recipe.yaml");

    /// <summary>The recipe of each session.</summary>
    public string Recipes => In("recipes");

    /// <summary>Program, machine and command line of each session.</summary>
    public string Sessions => In("sessions.jsonl");
    public string Metrics => In("metrics.jsonl");
    public string Samples => In("samples.jsonl");

    /// <summary>Prompt and completion that a reward failed on.</summary>
    public string FailedReward => In("failed-reward.jsonl");

    /// <summary>TensorBoard event files.</summary>
    public string Events => In("events");
    public string Checkpoints => In("checkpoints");

    /// <summary>All answers of each evaluation, as rollouts.</summary>
    public string Evaluations => In("evaluations");
    public string Plot => In("plot.png");

    /// <summary>Logs of the run's worker processes.</summary>
    public string Logs => In("logs");

    /// <summary>Beside the folder: the run that <see cref="ExistingRun.Overwrite"/> moved aside.</summary>
    public string Former => Path + ".former";
    public bool HasFormer => Directory.Exists(Former);

    /// <summary>True when a step of training is on disk.</summary>
    public bool HasSteps =>
        File.Exists(Metrics) && JsonLines.Read(Metrics).Any(row => row["step"] is { } step && (int)step > 0);

    private RunFolder(string path) => Path = path;

    /// <summary>
    /// The run's folder, which may not exist yet. Checks that it can be used as asked, and touches nothing.
    /// </summary>
    /// <exception cref="IOException">
    /// The folder exists and should not, does not exist and should be resumed, or is not a run's.
    /// </exception>
    public static RunFolder Find(string root, string name, ExistingRun existing = ExistingRun.Refuse)
    {
        var run = new RunFolder(System.IO.Path.GetFullPath(System.IO.Path.Combine(root, name)));
        bool exists = File.Exists(run.Recipe); // written when all else of a run has started
        if (!exists && !run.HoldsOnlyLeftovers())
            throw new IOException(
                $"{run.Path}: holds files but no recipe.yaml, so it is not a run's folder; it will not be overwritten. "
                    + "Choose another name with --set name=..."
            );
        if (exists && existing == ExistingRun.Refuse)
            throw new IOException(
                $"{run.Path}: a run of this name exists. Continue it with --resume, replace it with --overwrite, "
                    + "or choose another with --set name=..."
            );
        if (!exists && existing != ExistingRun.Overwrite && run.HasFormer)
            throw new IOException(
                $"{run.Path}: its last start was cut off before a step, and the run that it was to replace is at "
                    + $"{run.Former}. Move that back with: mv {run.Former} {run.Path}; or start over with --overwrite"
            );
        if (existing == ExistingRun.Resume && !Directory.Exists(run.Path))
            throw new IOException($"{run.Path}: no run of this name to resume; start it without --resume");
        return run;
    }

    /// <summary>
    /// Makes a new run's folder, or opens an existing one, as asked. A run that is to be replaced is moved to
    /// <see cref="Former"/>.
    /// </summary>
    /// <inheritdoc cref="Find" path="/exception"/>
    public static RunFolder Open(string root, string name, ExistingRun existing = ExistingRun.Refuse)
    {
        var run = Find(root, name, existing);
        if (existing != ExistingRun.Resume && Directory.Exists(run.Path))
            run.MakeWay();
        Directory.CreateDirectory(run.Checkpoints);
        return run;
    }

    /// <summary>Frees the folder's name. Nothing is deleted that has no successor.</summary>
    private void MakeWay()
    {
        bool isAttempt = !File.Exists(Recipe) || HasFormer && !HasSteps; // the run before it is the one to keep
        if (isAttempt)
        {
            Directory.Delete(Path, recursive: true);
            return;
        }
        DeleteFormer(); // the run in the folder has replaced it
        try
        {
            Directory.Move(Path, Former);
        }
        catch (IOException e)
        {
            throw new IOException(
                $"{Path}: the run can't be moved aside to {Former} ({e.Message}), so it will not be overwritten. "
                    + "Choose another name with --set name=...",
                e
            );
        }
    }

    /// <summary>Deletes the run that was moved aside, if there is one.</summary>
    public void DeleteFormer()
    {
        if (HasFormer)
            Directory.Delete(Former, recursive: true);
    }

    /// <summary>Moves the former run back, unless this one has written a step.</summary>
    /// <returns>Whether it is back.</returns>
    public bool RestoreFormer()
    {
        if (!HasFormer || HasSteps)
            return false;
        if (Directory.Exists(Path))
            Directory.Delete(Path, recursive: true);
        Directory.Move(Former, Path);
        return true;
    }

    /// <summary>
    /// Keeps other processes from training into this folder until disposed. The lock ends with the process, however
    /// that ends.
    /// </summary>
    /// <exception cref="IOException">Another process holds the lock.</exception>
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
                $"{Path}: another process is training this run ({path} is locked). "
                    + "Wait for its end or stop it with Ctrl-C.",
                e
            );
        }
    }

    /// <summary>True when the folder holds nothing, or only what a failed start leaves.</summary>
    private bool HoldsOnlyLeftovers() =>
        !Directory.Exists(Path)
        || Directory
            .EnumerateFileSystemEntries(Path)
            .All(entry =>
                entry == Metrics
                || entry == Samples
                || entry == Events
                || entry == Recipes
                || entry == Sessions
                || entry == Logs
                || entry == Checkpoints && !Directory.EnumerateFileSystemEntries(entry).Any()
            );

    /// <summary>Writes the resolved recipe of a session that begins after a step.</summary>
    public void WriteRecipe(object recipe, int step) => RecipeHistory.Write(this, recipe, step);

    /// <summary>
    /// Files and folders of the run that exist, relative to the working directory when they are inside it.
    /// </summary>
    /// <param name="step">Names the checkpoint to list.</param>
    public IReadOnlyList<string> Written(int step)
    {
        string[] all =
        [
            Recipe,
            Sessions,
            Metrics,
            Samples,
            Evaluations,
            Plot,
            Events,
            Runs.Checkpoints.Folder(this, step),
            Logs,
        ];
        return [.. all.Where(System.IO.Path.Exists).Select(Shortest)];
    }

    private static string Shortest(string path)
    {
        string relative = System.IO.Path.GetRelativePath(Environment.CurrentDirectory, path);
        return relative.StartsWith("..", StringComparison.Ordinal) ? path : relative;
    }

    private string In(string name) => System.IO.Path.Combine(Path, name);
}
