using ScottPlot;
using SkiaSharp;

namespace SimpleR1.Training.Runs;

/// <summary>The picture of a run: reward, accuracy and completion length over its steps.</summary>
public static class Plot
{
    static Plot()
    {
        Fonts.FontResolvers.Add(new BundledFont());
        Fonts.Default = BundledFont.Name;
    }

    /// <summary>Panels from top to bottom, and the metrics that each shows when a run has them.</summary>
    public static IReadOnlyList<(string Title, string[] Metrics)> Panels { get; } =
    [
        ("reward", ["reward"]),
        ("accuracy", ["accuracy", "evaluation_accuracy"]),
        ("completion length, tokens", ["completion_length"]),
    ];

    /// <summary>Draws a run's metrics into a PNG file.</summary>
    /// <exception cref="InvalidDataException">The run has none of the metrics.</exception>
    public static void Write(string runFolder, string pngPath, int width = 900, int height = 1000)
    {
        string metrics = System.IO.Path.Combine(runFolder, "metrics.jsonl");
        if (!File.Exists(metrics))
            throw new FileNotFoundException($"no metrics to plot: {metrics}", metrics);
        var figure = new Multiplot();
        figure.AddPlots(Panels.Count);
        int curves = 0;
        for (int i = 0; i < Panels.Count; i++)
        {
            var plot = figure.GetPlot(i);
            curves += DrawPanel(plot, Panels[i].Title, Panels[i].Metrics, metrics);
            if (i == Panels.Count - 1)
                plot.XLabel("step");
        }
        if (curves == 0)
            throw new InvalidDataException(
                $"{metrics}: none of {string.Join(", ", Panels.SelectMany(p => p.Metrics))} to plot"
            );
        figure.SavePng(pngPath, width, height);
    }

    /// <returns>Curves drawn: metrics that the run has.</returns>
    private static int DrawPanel(ScottPlot.Plot plot, string title, string[] names, string metricsPath)
    {
        int curves = 0;
        foreach (string name in names)
        {
            var (steps, values) = MetricsWriter.Read(metricsPath, name);
            if (steps.Length == 0)
                continue;
            curves++;
            string label = names.Length > 1 ? name.Replace('_', ' ') : "";
            bool smooth = name is "reward" or "completion_length" or "accuracy";
            Draw(plot, [.. steps.Select(s => (double)s)], values, label, smooth);
        }
        plot.Title(title, 15);
        if (names.Length > 1)
            plot.ShowLegend(Alignment.LowerRight);
        if (title == "accuracy")
            plot.Axes.SetLimitsY(-0.02, 1.02);
        return curves;
    }

    /// <summary>Draws noisy metrics faintly with their running mean over them, others as points joined by a line.</summary>
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

    /// <summary>The project's own font: a fresh server has none, and text would silently be missing.</summary>
    private sealed class BundledFont : IFontResolver
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
