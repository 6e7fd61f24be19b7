using System.Text.Json.Nodes;
using SimpleR1.Training.Runs.Files;

namespace SimpleR1.Training.Runs.Results;

/// <summary>A metric after a step.</summary>
/// <param name="X">Its place on an axis, in steps or minutes.</param>
public sealed record MetricPoint(int Step, double X, double Value)
{
    /// <summary>Ends of its 95% interval; null where the run has none.</summary>
    public (double Low, double High)? Interval { get; init; }
}

/// <summary>A run's <c>metrics.jsonl</c>, while the run trains or after it.</summary>
public sealed class RunMetrics
{
    private readonly IReadOnlyList<JsonObject> rows;

    private RunMetrics(IReadOnlyList<JsonObject> rows) => this.rows = rows;

    /// <summary>Reads all complete rows.</summary>
    /// <exception cref="FileNotFoundException">There is no such file.</exception>
    /// <exception cref="InvalidDataException">A line before the last is not a JSON object.</exception>
    public static RunMetrics Read(string path) => new([.. JsonLines.Read(path)]);

    /// <summary>Steps finished.</summary>
    public int Steps => (int)(LastOf("step") ?? 0);

    /// <summary>How long the run has worked; null where no row has it.</summary>
    public double? TrainingSeconds => LastOf(ElapsedTime.TrainingMetric);

    /// <inheritdoc cref="TrainingSeconds"/>
    public double? Seconds => LastOf(ElapsedTime.Metric);

    /// <summary>A metric in the order of the rows, without those that lack it or their place on the axis.</summary>
    public IReadOnlyList<MetricPoint> Points(string name, RunAxis axis)
    {
        var points = new List<MetricPoint>();
        foreach (var row in rows)
        {
            if (JsonLines.NumberOf(row, name) is not { } value || axis.Of(row) is not { } x)
                continue;
            double? low = JsonLines.NumberOf(row, name + "_low");
            double? high = JsonLines.NumberOf(row, name + "_high");
            bool hasInterval = low is not null && high is not null;
            points.Add(new((int)row["step"]!, x, value) { Interval = hasInterval ? (low!.Value, high!.Value) : null });
        }
        return points;
    }

    private double? LastOf(string name) => rows.Count == 0 ? null : JsonLines.NumberOf(rows[^1], name);
}
