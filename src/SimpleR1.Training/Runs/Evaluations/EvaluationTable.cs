using System.Globalization;

namespace SimpleR1.Training.Runs.Evaluations;

/// <summary>Several evaluations as a table in Markdown, a line each, that reads well on a console too.</summary>
public static class EvaluationTable
{
    private const string Prefix = "evaluation_";
    private const string Accuracy = Prefix + "accuracy";
    private const string Reward = Prefix + "reward";

    /// <summary>The header and a line for each evaluation.</summary>
    public static IEnumerable<string> Lines(IReadOnlyList<EvaluationSummary> evaluations)
    {
        string[] metrics = [.. evaluations.SelectMany(e => e.Metrics.Keys).Where(IsShown).Distinct()];
        string[] header = ["step", .. metrics.Select(m => m[Prefix.Length..].Replace('_', ' '))];
        List<string[]> rows =
        [
            .. evaluations.Select(e => (string[])[Invariant($"{e.Step}"), .. metrics.Select(m => Cell(e.Metrics, m))]),
        ];

        int[] widths = [.. header.Select((name, i) => rows.Select(r => r[i].Length).Append(name.Length).Max())];
        yield return Line(header, widths);
        yield return $"|{string.Concat(widths.Select(w => new string('-', w + 1) + ":|"))}";
        foreach (string[] row in rows)
            yield return Line(row, widths);
    }

    /// <summary>All shares of all problems, the accuracy of each set, and the length.</summary>
    private static bool IsShown(string metric)
    {
        bool isOfSet = metric.Contains('/');
        bool isAccuracy = metric.StartsWith(EvaluationScores.InSet(Accuracy, ""), StringComparison.Ordinal);
        return !EvaluationScores.IsEnd(metric)
            && metric is not (Reward or "evaluation_seconds")
            && (!isOfSet || isAccuracy);
    }

    private static string Cell(IReadOnlyDictionary<string, double> metrics, string name)
    {
        if (!metrics.TryGetValue(name, out double value))
            return "-";
        return metrics.TryGetValue(name + EvaluationScores.Low, out double low)
            ? new Interval(value, low, metrics[name + EvaluationScores.High]).Percent
            : Invariant($"{value:F1}");
    }

    private static string Line(string[] cells, int[] widths) =>
        $"|{string.Concat(cells.Select((cell, i) => $" {cell.PadLeft(widths[i])} |"))}";

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
