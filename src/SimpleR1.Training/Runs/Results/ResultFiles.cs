using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using SimpleR1.Training.Runs.Fingerprints;

namespace SimpleR1.Training.Runs.Results;

/// <summary>A comparison in a folder: <c>results.md</c>, <c>results.json</c> and <c>results.png</c>.</summary>
public static class ResultFiles
{
    private const string Picture = "results.png";

    private static readonly JsonSerializerOptions Json = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>Writes the files, and replaces those of before. They name no folder of this machine.</summary>
    /// <param name="command">The command line that makes them; null where a program made them.</param>
    /// <returns>The paths of the files.</returns>
    public static IReadOnlyList<string> Write(RunComparison comparison, string folder, string? command)
    {
        Directory.CreateDirectory(folder);
        string page = Path.Combine(folder, "results.md");
        string data = Path.Combine(folder, "results.json");
        string png = Path.Combine(folder, Picture);
        bool hasPicture = ResultPlot.Write(comparison, png);
        if (!hasPicture)
            File.Delete(png);
        string title = "Results: " + Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder)));
        File.WriteAllText(page, ResultPage.Write(comparison, title, command, hasPicture ? Picture : null));
        File.WriteAllText(data, ToJson(comparison).ToJsonString(Json) + "\n");
        return hasPicture ? [page, data, png] : [page, data];
    }

    private static JsonObject ToJson(RunComparison comparison) =>
        new()
        {
            ["metric"] = comparison.Options.Metric,
            ["by"] = comparison.Options.Axis.Name,
            ["groups"] = new JsonArray([.. comparison.Groups.Select(group => ToJson(group, comparison))]),
        };

    private static JsonObject ToJson(GroupResult group, RunComparison comparison) =>
        new()
        {
            ["name"] = MachinePaths.Remove(group.Group.Name),
            ["recipe"] = new JsonObject(
                comparison.DifferingKeys.Select(key =>
                    KeyValuePair.Create(key, (JsonNode?)Published(group.Group.Recipe.GetValueOrDefault(key)))
                )
            ),
            ["first"] = ToJson(group.First),
            ["last"] = ToJson(group.Last),
            ["best"] = ToJson(group.Best),
            ["thresholds"] = new JsonArray([.. group.Thresholds.Select(ToJson)]),
            ["runs"] = new JsonArray([.. group.Group.Runs.Zip(group.Points, ToJson)]),
        };

    private static string? Published(string? value) => value is null ? null : MachinePaths.Remove(value);

    private static JsonObject? ToJson(SeedFigure? figure) =>
        figure is null
            ? null
            : new()
            {
                ["mean"] = figure.Mean,
                ["low"] = figure.Interval?.Low,
                ["high"] = figure.Interval?.High,
                ["seeds"] = figure.Seeds,
            };

    private static JsonObject ToJson(ThresholdTime time) =>
        new() { ["value"] = time.Threshold, ["reached"] = JsonSerializer.SerializeToNode(time.Reached) };

    private static JsonObject ToJson(RecordedRun run, IReadOnlyList<MetricPoint> points) =>
        new()
        {
            ["run"] = run.Name,
            ["seed"] = run.Seed,
            ["steps"] = run.Metrics.Steps,
            ["training_seconds"] = run.Metrics.TrainingSeconds,
            ["seconds"] = run.Metrics.Seconds,
            ["sessions"] = new JsonArray([.. run.Sessions.Select(ToJson)]),
            ["points"] = new JsonArray([.. points.Select(ToJson)]),
        };

    private static JsonNode? ToJson(RunOrigin session) =>
        JsonSerializer.SerializeToNode(session with { Command = Published(session.Command) }, Json);

    private static JsonObject ToJson(MetricPoint point) =>
        new()
        {
            ["step"] = point.Step,
            ["x"] = point.X,
            ["value"] = point.Value,
            ["low"] = point.Interval?.Low,
            ["high"] = point.Interval?.High,
        };
}
