using ScottPlot;

namespace SimpleR1.Training.Runs.Results;

/// <summary>
/// The picture of a comparison: a colour for each recipe, a thick line for the mean of its runs with a band from the
/// lowest to the highest, a thin line for each run.
/// </summary>
public static class ResultPlot
{
    private const int Width = 900; // pixels
    private const int Height = 560;

    /// <returns>False, and no file, where no run has a point.</returns>
    public static bool Write(RunComparison comparison, string pngPath)
    {
        if (comparison.Groups.All(group => group.Points.All(points => points.Count == 0)))
            return false;
        using var font = PlotFont.Load(); // it is every picture's from here on
        var plot = new ScottPlot.Plot();
        var palette = new ScottPlot.Palettes.Category10();
        for (int i = 0; i < comparison.Groups.Count; i++)
            Draw(plot, comparison.Groups[i], palette.GetColor(i));
        plot.YLabel(comparison.Options.Metric);
        plot.XLabel(comparison.Options.Axis.Label);
        plot.ShowLegend(Alignment.LowerRight);
        plot.SavePng(pngPath, Width, Height);
        return true;
    }

    private static void Draw(ScottPlot.Plot plot, GroupResult group, Color color)
    {
        var means = MeanPoint.Of(group.Points);
        if (group.Points.Count(points => points.Count > 0) > 1)
        {
            DrawBand(plot, means, color);
            foreach (var points in group.Points.Where(points => points.Count > 0))
            {
                var run = plot.Add.Scatter(points.Select(p => p.X).ToArray(), points.Select(p => p.Value).ToArray());
                run.Color = color.WithAlpha(0.45);
                run.LineWidth = 1;
                run.MarkerSize = 0;
            }
        }
        if (means.Count == 0)
            return;
        var line = plot.Add.Scatter(means.Select(m => m.X).ToArray(), means.Select(m => m.Mean).ToArray());
        line.Color = color;
        line.LineWidth = 2.5f;
        line.MarkerSize = 7;
        line.LegendText = MachinePaths.Remove(group.Group.Name);
    }

    private static void DrawBand(ScottPlot.Plot plot, IReadOnlyList<MeanPoint> means, Color color)
    {
        if (means.Count < 2)
            return;
        var band = plot.Add.FillY(
            means.Select(m => m.X).ToArray(),
            means.Select(m => m.Lowest).ToArray(),
            means.Select(m => m.Highest).ToArray()
        );
        band.FillColor = color.WithAlpha(0.15);
        band.LineWidth = 0;
        band.MarkerSize = 0;
    }
}

/// <summary>Runs of one recipe after a step: the mean of their places on the axis and of their values.</summary>
public sealed record MeanPoint(double X, double Mean, double Lowest, double Highest)
{
    /// <summary>After each step that all runs with points have; a mean of fewer would jump where one of them ends.</summary>
    /// <param name="points">Of each run.</param>
    public static IReadOnlyList<MeanPoint> Of(IReadOnlyList<IReadOnlyList<MetricPoint>> points)
    {
        var runs = points.Where(run => run.Count > 0).ToArray();
        return
        [
            .. runs.SelectMany(run => run.DistinctBy(p => p.Step))
                .GroupBy(p => p.Step)
                .Where(step => step.Count() == runs.Length)
                .OrderBy(step => step.Key)
                .Select(step => new MeanPoint(
                    step.Average(p => p.X),
                    step.Average(p => p.Value),
                    step.Min(p => p.Value),
                    step.Max(p => p.Value)
                )),
        ];
    }
}
