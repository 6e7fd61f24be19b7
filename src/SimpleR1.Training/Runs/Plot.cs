using ScottPlot;
using SkiaSharp;

namespace SimpleR1.Training.Runs;

/// <summary>The picture of a run: reward, accuracy and completion length over its steps.</summary>
public static class Plot
{
    static Plot()
    {
        Fonts.FontResolvers.Add(new OwnFont());
        Fonts.Default = OwnFont.Name;
    }

    /// <summary>Panels from top to bottom, and the metrics that each shows where a run has them.</summary>
    public static IReadOnlyList<(string Title, string[] Metrics)> Panels { get; } =
    [
        ("reward", ["reward"]),
        ("accuracy", ["accuracy", "evaluation_accuracy"]),
        ("completion length, tokens", ["completion_length"]),
    ];

    /// <summary>Draws a run's metrics into a PNG file.</summary>
    /// <exception cref="InvalidDataException">The run has none of the metrics yet.</exception>
    public static void Write(string runFolder, string pngPath, int width = 900, int height = 1000)
    {
        string metrics = System.IO.Path.Combine(runFolder, "metrics.jsonl");
        if (!File.Exists(metrics))
            throw new FileNotFoundException($"no metrics to plot: {metrics}", metrics);
        var figure = new Multiplot();
        figure.AddPlots(Panels.Count);
        bool any = false;
        foreach (var (panel, index) in Panels.Select((p, i) => (p, i)))
        {
            var plot = figure.GetPlot(index);
            foreach (string name in panel.Metrics)
            {
                var (steps, values) = MetricsWriter.Read(metrics, name);
                if (steps.Length == 0)
                    continue;
                any = true;
                Draw(
                    plot,
                    [.. steps.Select(s => (double)s)],
                    values,
                    panel.Metrics.Length > 1 ? name.Replace('_', ' ') : "",
                    smooth: name is "reward" or "completion_length" or "accuracy"
                );
            }
            plot.Title(panel.Title, 15);
            if (index == Panels.Count - 1)
                plot.XLabel("step");
            if (panel.Metrics.Length > 1)
                plot.ShowLegend(Alignment.LowerRight);
            if (panel.Title == "accuracy")
                plot.Axes.SetLimitsY(-0.02, 1.02);
        }
        if (!any)
            throw new InvalidDataException(
                $"{metrics}: none of {string.Join(", ", Panels.SelectMany(p => p.Metrics))} to plot"
            );
        figure.SavePng(pngPath, width, height);
    }

    /// <summary>Noisy metrics are drawn faintly with their running mean over them; others as points joined by a line.</summary>
    private static void Draw(ScottPlot.Plot plot, double[] steps, double[] values, string label, bool smooth)
    {
        bool faint = smooth && values.Length >= 20;
        var line = plot.Add.Scatter(steps, values);
        line.MarkerSize = faint ? 0 : 5;
        line.LineWidth = faint ? 1 : 2;
        line.LegendText = label;
        if (!faint)
            return;
        var color = line.Color;
        line.Color = color.WithAlpha(0.35);
        var mean = plot.Add.Scatter(steps, RunningMean(values, Math.Max(5, values.Length / 20)));
        mean.Color = color;
        mean.MarkerSize = 0;
        mean.LineWidth = 2.5f;
        line.LegendText = "";
        mean.LegendText = label;
    }

    private static double[] RunningMean(double[] values, int window) =>
        [.. values.Select((_, i) => values[Math.Max(0, i - window + 1)..(i + 1)].Average())];

    /// <summary>A font of our own: a fresh server has none, and text would be missing without a word.</summary>
    private sealed class OwnFont : IFontResolver
    {
        public const string Name = "SimpleR1 Plot";

        public SKTypeface? CreateTypeface(string fontName, FontWeight weight, FontSlant slant, FontSpacing spacing) =>
            fontName == Name
                ? SKTypeface.FromStream(typeof(Plot).Assembly.GetManifestResourceStream("PlotFont.ttf")!)
                : null;

        public SKTypeface? CreateTypeface(string fontName, bool bold, bool italic) =>
            CreateTypeface(fontName, FontWeight.Normal, FontSlant.Upright, FontSpacing.Normal);
    }
}
