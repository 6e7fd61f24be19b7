using System.Text.Json.Nodes;
using SimpleR1.Training.Rewards;

namespace SimpleR1.Training.Runs;

/// <summary>A run's figures by step, in <c>metrics.jsonl</c> and as TensorBoard events.</summary>
public sealed class MetricsWriter : IDisposable
{
    private readonly JsonLines rows;
    private readonly TensorBoardWriter events;

    /// <param name="run">The run's folder.</param>
    /// <param name="resumedStep">Last step of the checkpoint that the run goes on from; rows after it are removed. Null for a new run.</param>
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

    /// <summary>One metric of a run by step, rows without it left out.</summary>
    public static (int[] Steps, double[] Values) Read(string metricsPath, string name)
    {
        var points = JsonLines
            .Read(metricsPath)
            .Where(r => r[name] is JsonValue v && v.GetValueKind() == System.Text.Json.JsonValueKind.Number)
            .Select(r => (Step: (int)r["step"]!, Value: (double)r[name]!))
            .ToList();
        return ([.. points.Select(p => p.Step)], [.. points.Select(p => p.Value)]);
    }

    public void Dispose()
    {
        rows.Dispose();
        events.Dispose();
    }
}

/// <summary>A rollout as people read it.</summary>
public sealed record LoggedSample(
    int Step,
    string Question,
    string Answer,
    string Completion,
    Score Score,
    int Tokens,
    bool Truncated
);

/// <summary>Rollouts in <c>samples.jsonl</c>.</summary>
public sealed class SamplesWriter(RunFolder run, int? resumedStep = null) : IDisposable
{
    private readonly JsonLines rows = new(run.Samples, resumedStep);

    public void Write(LoggedSample sample) =>
        rows.Write(
            new JsonObject
            {
                ["step"] = sample.Step,
                ["reward"] = sample.Score.Total,
                ["rewards"] = new JsonObject(
                    sample.Score.ByName.Select(r => KeyValuePair.Create(r.Key, (JsonNode?)r.Value))
                ),
                ["tokens"] = sample.Tokens,
                ["truncated"] = sample.Truncated,
                ["question"] = sample.Question,
                ["answer"] = sample.Answer,
                ["completion"] = sample.Completion,
            }
        );

    public void Dispose() => rows.Dispose();
}
