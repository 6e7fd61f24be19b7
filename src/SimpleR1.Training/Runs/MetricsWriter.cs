using System.Text.Json.Nodes;
using SimpleR1.Training.Runs.Files;

namespace SimpleR1.Training.Runs;

/// <summary>A run's figures by step, in <c>metrics.jsonl</c> and as TensorBoard events.</summary>
public sealed class MetricsWriter : IDisposable
{
    private readonly JsonLines rows;
    private readonly TensorBoardWriter events;

    /// <param name="run">The run's folder.</param>
    /// <param name="resumedStep">
    /// Step of the checkpoint that the run continues from; rows after it are removed. Null for a new run.
    /// </param>
    public MetricsWriter(RunFolder run, int? resumedStep = null)
    {
        rows = new JsonLines(run.Metrics, resumedStep);
        events = new TensorBoardWriter(run.Events, resumedStep is { } step ? step + 1 : null);
    }

    /// <summary>Writes one step's figures. Names are snake_case; a '/' groups them in TensorBoard.</summary>
    public void Write(int step, IEnumerable<KeyValuePair<string, double>> values)
    {
        var row = new JsonObject { ["step"] = step };
        foreach (var (name, value) in values)
        {
            row[name] = JsonLines.Number(value);
            events.Scalar(name, step, value);
        }
        rows.Write(row);
        events.Flush();
    }

    /// <summary>Removes the figures of the evaluation after a step, which is to be made again.</summary>
    internal static void DropEvaluation(RunFolder run, int step)
    {
        if (File.Exists(run.Metrics))
            JsonLines.Keep(run.Metrics, row => (int)row["step"]! != step || row["evaluation_accuracy"] is null);
    }

    public void Dispose()
    {
        rows.Dispose();
        events.Dispose();
    }
}
