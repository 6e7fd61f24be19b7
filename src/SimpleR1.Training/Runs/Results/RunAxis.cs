using System.Text.Json.Nodes;
using SimpleR1.Training.Runs.Files;

namespace SimpleR1.Training.Runs.Results;

/// <summary>What a run's figures are shown over.</summary>
/// <param name="Name">As the command line has it.</param>
/// <param name="Label">Below the axis of a picture.</param>
/// <param name="Unit">In the header of a column.</param>
public sealed record RunAxis(string Name, string Label, string Unit)
{
    private const double Minute = 60;

    public static RunAxis Step { get; } = new("step", "step", "step");

    /// <summary>Minutes of training, without starts and evaluations.</summary>
    public static RunAxis Time { get; } =
        new("time", "minutes of training, without evaluations", "min") { Metric = ElapsedTime.TrainingMetric };

    /// <summary>Minutes of wall time, everything included.</summary>
    public static RunAxis Wall { get; } =
        new("wall", "minutes of wall time, everything included", "min") { Metric = ElapsedTime.Metric };

    public static IReadOnlyList<RunAxis> All { get; } = [Step, Time, Wall];

    /// <summary>The metric in seconds that has a row's place on the axis; null where that is the step.</summary>
    public string? Metric { get; private init; }

    /// <exception cref="ArgumentException">There is no such axis.</exception>
    public static RunAxis Parse(string name) =>
        All.FirstOrDefault(axis => axis.Name == name)
        ?? throw new ArgumentException($"'{name}': expected {string.Join(", ", All.Select(axis => axis.Name))}");

    /// <summary>A row's place on the axis, in steps or minutes; null where the row has no time.</summary>
    internal double? Of(JsonObject row) =>
        Metric is null ? JsonLines.NumberOf(row, "step") : JsonLines.NumberOf(row, Metric) / Minute;
}
