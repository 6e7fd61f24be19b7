using static System.FormattableString;

namespace SimpleR1.Training.Runs.Results;

/// <summary>The table of a comparison: a row for each recipe.</summary>
public static class ResultTable
{
    private const string None = "-";

    /// <summary>The names of the columns.</summary>
    public static IReadOnlyList<string> Headers(ResultOptions options) =>
        [
            "recipe",
            "seeds",
            "first",
            "last",
            "best",
            .. options.Thresholds.Select(t => $"{options.Axis.Unit} to {Threshold(t, options.Metric)}"),
            "steps",
            "training, min",
        ];

    /// <summary>The cells of each recipe, in the order of the columns.</summary>
    public static IEnumerable<IReadOnlyList<string>> Rows(RunComparison comparison) =>
        comparison.Groups.Select(group => Row(group, comparison.Options));

    /// <summary>"0.412 [0.398, 0.426]", of a share "41.2% [39.8, 42.6]".</summary>
    public static string Text(SeedFigure? figure, string metric)
    {
        if (figure is null)
            return None;
        if (figure.Interval is not { } interval)
            return Value(figure.Mean, metric);
        bool isShare = IsShare(metric); // few seeds have intervals that reach beyond what a share can be
        double low = isShare ? Math.Max(0, interval.Low) : interval.Low;
        double high = isShare ? Math.Min(1, interval.High) : interval.High;
        string ends = $"[{Number(low, metric)}, {Number(high, metric)}]";
        return $"{Value(figure.Mean, metric)} {ends}";
    }

    /// <summary>"4.2", of several runs "4.2 [3.9, 4.6] 2 of 3": mean, range, and how many runs reached it.</summary>
    public static string Text(ThresholdTime time, RunAxis axis)
    {
        if (time.Reached.Count == 0)
            return None;
        string mean = Place(time.Reached.Average(), axis);
        if (time.Runs == 1)
            return mean;
        string count = $"{time.Reached.Count} of {time.Runs}";
        return $"{mean} [{Place(time.Reached.Min(), axis)}, {Place(time.Reached.Max(), axis)}] {count}";
    }

    /// <summary>True where a metric is a share of answers, which is shown as a percentage.</summary>
    internal static bool IsShare(string metric) =>
        metric.Contains("accuracy", StringComparison.Ordinal) || metric.Contains("_at_", StringComparison.Ordinal);

    private static IReadOnlyList<string> Row(GroupResult group, ResultOptions options) =>
        [
            group.Group.Name,
            string.Join(' ', group.Group.Runs.Select(run => Invariant($"{run.Seed}"))),
            Text(group.First, options.Metric),
            Text(group.Last, options.Metric),
            Text(group.Best, options.Metric),
            .. group.Thresholds.Select(time => Text(time, options.Axis)),
            Range([.. group.Steps], RunAxis.Step),
            Range([.. group.TrainingMinutes], RunAxis.Time),
        ];

    private static string Range(double[] values, RunAxis axis)
    {
        if (values.Length == 0)
            return None;
        string least = Place(values.Min(), axis);
        string most = Place(values.Max(), axis);
        return least == most ? least : $"{least} to {most}";
    }

    private static string Place(double x, RunAxis axis) =>
        axis == RunAxis.Step ? Invariant($"{x:0.#}") : Invariant($"{x:F1}");

    private static string Value(double value, string metric) => Number(value, metric) + (IsShare(metric) ? "%" : "");

    private static string Number(double value, string metric) =>
        IsShare(metric) ? Invariant($"{100 * value:F1}") : Invariant($"{value:G4}");

    /// <summary>As short as a person writes it: "35%".</summary>
    internal static string Threshold(double value, string metric) =>
        IsShare(metric) ? Invariant($"{100 * value:0.##}%") : Invariant($"{value:G4}");
}
