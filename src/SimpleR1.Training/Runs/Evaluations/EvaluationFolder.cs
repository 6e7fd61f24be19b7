using System.Text;
using SimpleR1.Training.Runs.Fingerprints;

namespace SimpleR1.Training.Runs.Evaluations;

/// <summary>
/// A folder with the evaluations of a run's models: one folder a step, a table and a picture of all. What is there already
/// and was made in the same way is not made again.
/// </summary>
public sealed class EvaluationFolder
{
    private const string Steps = "step-??????";

    private readonly string path;
    private readonly bool replace;

    /// <param name="replace">Whether all evaluations are to be made again.</param>
    /// <exception cref="IOException">The folder holds files that are none of evaluations of a run.</exception>
    public EvaluationFolder(string path, bool replace)
    {
        this.path = path;
        this.replace = replace;
        if (File.Exists(path))
            throw new IOException($"{path} is a file; expected a folder for evaluations");
        string[] others = Directory.Exists(path) ? [.. Others()] : [];
        if (others.Length > 0)
            throw new IOException(
                $"{path} holds files that are no evaluations of a run, such as {others[0]}; choose another folder"
            );
    }

    /// <summary>The table of all evaluations.</summary>
    public string Table => Path.Combine(path, "summary.md");

    /// <summary>Their accuracy over the steps.</summary>
    public string Picture => Path.Combine(path, "accuracy.png");

    /// <summary>The files of the evaluation after a step.</summary>
    public EvaluationFiles FilesOf(int step) => EvaluationFiles.In(Path.Combine(path, $"step-{step:D6}"));

    /// <summary>Checks that evaluations to come can stand beside those that are there, or deletes those.</summary>
    /// <exception cref="IOException">Some were made otherwise, and are not to be replaced.</exception>
    public void Prepare(Fingerprint fingerprint)
    {
        foreach (string folder in Directory.Exists(path) ? Directory.GetDirectories(path, Steps) : [])
        {
            if (replace)
                Directory.Delete(folder, recursive: true);
            else if (EvaluationFiles.In(folder).ReadFingerprint() is { } made && !made.Equals(fingerprint))
                throw new IOException(
                    $"{folder} was made otherwise: "
                        + string.Join("; ", made.Differences(fingerprint).Select(n => made.Change(n, fingerprint)))
                        + ". Make all again with --overwrite, or choose another folder"
                );
        }
    }

    /// <summary>The evaluation after a step by the same weights; null when there is none.</summary>
    public EvaluationSummary? Find(int step, string weights) =>
        FilesOf(step).ReadComplete() is { } kept && kept.Weights == weights ? kept : null;

    /// <summary>All complete evaluations in the folder, by step.</summary>
    public IReadOnlyList<EvaluationSummary> Read() =>
        [
            .. Directory
                .GetDirectories(path, Steps)
                .Select(folder => EvaluationFiles.In(folder).ReadComplete())
                .OfType<EvaluationSummary>()
                .OrderBy(summary => summary.Step),
        ];

    /// <summary>Writes the table and the picture of all evaluations in the folder.</summary>
    /// <param name="title">Says what was evaluated.</param>
    public void WriteOverview(string title)
    {
        var all = Read();
        var text = new StringBuilder($"# {title}\n\n");
        foreach (string line in EvaluationTable.Lines(all))
            text.Append(line).Append('\n');
        text.Append("\nShares in percent, with 95% intervals over problems.\n");
        File.WriteAllText(Table, text.ToString());
        EvaluationPlot.Write(all, title, Picture);
    }

    private IEnumerable<string> Others() =>
        Directory
            .EnumerateFileSystemEntries(path)
            .Where(entry => entry != Table && entry != Picture)
            .Except(Directory.EnumerateDirectories(path, Steps));
}
