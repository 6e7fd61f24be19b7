using ScottPlot;
using SimpleR1.Training.Runs.Results;

namespace SimpleR1.Training.Runs.Evaluations;

/// <summary>A picture of evaluations: accuracy over steps with 95% intervals, of all problems and of each set.</summary>
public static class EvaluationPlot
{
    private const string Metric = "evaluation_accuracy";
    private const int Width = 900; // pixels
    private const int Height = 500;

    /// <summary>Draws evaluations into a PNG file.</summary>
    public static void Write(IReadOnlyList<EvaluationSummary> evaluations, string title, string pngPath)
    {
        using var font = PlotFont.Load(); // it is every picture's from here on
        var plot = new ScottPlot.Plot();
        var palette = new ScottPlot.Palettes.Category10();
        string[] series = [.. evaluations.SelectMany(e => e.Metrics.Keys).Where(IsSeries).Distinct()];
        for (int i = 0; i < series.Length; i++)
            Draw(plot, evaluations, series[i], palette.GetColor(i));

        plot.Title(title, 15);
        plot.XLabel("step");
        plot.YLabel("accuracy, with 95% interval");
        if (series.Length > 1)
            plot.ShowLegend(Alignment.LowerRight);
        plot.Axes.SetLimitsY(-0.02, 1.02);
        plot.SavePng(pngPath, Width, Height);
    }

    private static bool IsSeries(string metric)
    {
        string ofSets = EvaluationScores.InSet(Metric, "");
        return !EvaluationScores.IsEnd(metric)
            && (metric == Metric || metric.StartsWith(ofSets, StringComparison.Ordinal));
    }

    private static void Draw(
        ScottPlot.Plot plot,
        IReadOnlyList<EvaluationSummary> evaluations,
        string metric,
        Color color
    )
    {
        var known = evaluations.Where(e => e.Metrics.ContainsKey(metric)).ToList();
        double[] steps = [.. known.Select(e => (double)e.Step)];
        double[] values = [.. known.Select(e => e.Metrics[metric])];
        double[] below = [.. known.Select(e => e.Metrics[metric] - e.Metrics[metric + EvaluationScores.Low])];
        double[] above = [.. known.Select(e => e.Metrics[metric + EvaluationScores.High] - e.Metrics[metric])];
        var bars = new ScottPlot.Plottables.ErrorBar(steps, values, null, null, below, above);
        plot.PlottableList.Add(bars);
        bars.Color = color;

        var line = plot.Add.Scatter(steps, values);
        line.Color = color;
        line.MarkerSize = 7;
        line.LegendText = metric == Metric ? "all" : metric[(Metric.Length + 1)..];
    }
}
