using ScottPlot;
using SkiaSharp;

namespace SimpleR1.Training.Runs;

/// <summary>
/// The picture of one or several runs: reward, accuracy and completion length over their steps. A line is what training
/// sampled; points with bars are evaluations and their 95% intervals.
/// </summary>
public static class Plot
{
    private const int TitleHeight = 44; // pixels
    private const int LeftWidth = 64; // of every panel, so that their axes are aligned
    private const string EvaluationMetric = "evaluation_accuracy";

    static Plot()
    {
        Fonts.FontResolvers.Add(new BundledFont());
        Fonts.Default = BundledFont.Name;
    }

    /// <summary>A metric by step, with what evaluations say of it where they do.</summary>
    private sealed record Panel(string Title, string Metric, string? Evaluation = null);

    /// <summary>A run with its name and its colours in the picture.</summary>
    private sealed record PlottedRun(string Name, string Metrics, Color Line, Color Points);

    private static readonly IReadOnlyList<Panel> Panels =
    [
        new("reward", "reward"),
        new("accuracy", "accuracy", EvaluationMetric),
        new("completion length, tokens", "completion_length"),
    ];

    private static IEnumerable<string> Shown => [.. Panels.Select(p => p.Metric), EvaluationMetric];

    /// <summary>Draws runs' metrics into one PNG file.</summary>
    /// <exception cref="FileNotFoundException">A folder has no metrics.</exception>
    /// <exception cref="InvalidDataException">A run has none of the metrics.</exception>
    public static void Write(IReadOnlyList<string> runFolders, string pngPath, int width = 900, int height = 1000)
    {
        var runs = Find(runFolders);
        var figure = new Multiplot();
        figure.AddPlots(Panels.Count);
        for (int i = 0; i < Panels.Count; i++)
            DrawPanel(figure.GetPlot(i), Panels[i], runs, isFirst: i == 0);
        figure.GetPlot(Panels.Count - 1).XLabel("step");
        AlignSteps(figure, runs);

        // The panels below the title
        using var panels = SKSurface.Create(new SKImageInfo(width, height - TitleHeight));
        figure.Render(panels);
        using var surface = SKSurface.Create(new SKImageInfo(width, height));
        surface.Canvas.Clear(SKColors.White);
        DrawTitle(surface.Canvas, string.Join(", ", runs.Select(r => r.Name)), width);
        surface.Canvas.DrawSurface(panels, 0, TitleHeight);
        using var image = surface.Snapshot();
        using var png = image.Encode(SKEncodedImageFormat.Png, 100);
        using var file = File.Create(pngPath);
        png.SaveTo(file);
    }

    private static List<PlottedRun> Find(IReadOnlyList<string> folders)
    {
        string[] names =
        [
            .. folders.Select(f => Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(f)))),
        ];
        bool areDistinct = names.Distinct(StringComparer.Ordinal).Count() == names.Length;
        var palette = new ScottPlot.Palettes.Category10();
        var runs = new List<PlottedRun>();
        for (int i = 0; i < folders.Count; i++)
        {
            string metrics = Path.Combine(folders[i], "metrics.jsonl");
            if (!File.Exists(metrics))
                throw new FileNotFoundException($"no metrics to plot: {metrics}", metrics);
            if (Shown.All(m => MetricsWriter.Read(metrics, m).Steps.Length == 0))
                throw new InvalidDataException($"{metrics}: none of {string.Join(", ", Shown)} to plot");
            int points = folders.Count > 1 ? i : i + 1; // one run has a second colour for its evaluations
            runs.Add(new(areDistinct ? names[i] : folders[i], metrics, palette.GetColor(i), palette.GetColor(points)));
        }
        return runs;
    }

    private static void DrawPanel(ScottPlot.Plot plot, Panel panel, List<PlottedRun> runs, bool isFirst)
    {
        bool isAlone = runs.Count == 1;
        foreach (var run in runs)
        {
            string name = isAlone && panel.Evaluation is not null ? "training samples" : "";
            DrawLine(plot, run, panel.Metric, isAlone || !isFirst ? name : run.Name);
            if (panel.Evaluation is { } evaluation)
                DrawEvaluations(plot, run, evaluation, isAlone ? "evaluation, with 95% interval" : "");
        }
        bool explains = panel.Evaluation is not null && !isAlone;
        plot.Title(explains ? $"{panel.Title} (points: evaluation, with 95% interval)" : panel.Title, 15);
        if (isAlone ? panel.Evaluation is not null : isFirst)
            plot.ShowLegend(Alignment.LowerRight);
        if (panel.Metric == "accuracy")
            plot.Axes.SetLimitsY(-0.02, 1.02);
    }

    /// <summary>Gives every panel the same steps at the same place.</summary>
    private static void AlignSteps(Multiplot figure, List<PlottedRun> runs)
    {
        int[] steps = [.. runs.SelectMany(r => Shown.SelectMany(m => MetricsWriter.Read(r.Metrics, m).Steps))];
        double margin = Math.Max(0.5, 0.03 * (steps.Max() - steps.Min()));
        foreach (var plot in figure.GetPlots())
        {
            plot.Axes.Left.MinimumSize = LeftWidth;
            plot.Axes.Left.MaximumSize = LeftWidth;
            plot.Axes.SetLimitsX(steps.Min() - margin, steps.Max() + margin);
        }
    }

    private static void DrawTitle(SKCanvas canvas, string title, int width)
    {
        using var typeface = new BundledFont().CreateTypeface(BundledFont.Name, bold: false, italic: false);
        using var font = new SKFont(typeface, 20);
        using var paint = new SKPaint { Color = SKColors.Black, IsAntialias = true };
        float wide = font.MeasureText(title);
        if (wide > width - 20)
            font.Size *= (width - 20) / wide;
        canvas.DrawText(title, width / 2f, TitleHeight - 12, SKTextAlign.Center, font, paint);
    }

    /// <summary>Draws many steps faintly with their running mean over them, few as points joined by a line.</summary>
    private static void DrawLine(ScottPlot.Plot plot, PlottedRun run, string metric, string label)
    {
        var (steps, values) = MetricsWriter.Read(run.Metrics, metric);
        if (steps.Length == 0)
            return;
        double[] xs = [.. steps.Select(s => (double)s)];
        bool faint = values.Length >= 20;
        var line = plot.Add.Scatter(xs, values);
        line.Color = faint ? run.Line.WithAlpha(0.35) : run.Line;
        line.MarkerSize = faint ? 0 : 5;
        line.LineWidth = faint ? 1 : 2;
        line.LegendText = faint ? "" : label;
        if (!faint)
            return;
        var mean = plot.Add.Scatter(xs, RunningMean(values, Math.Max(5, values.Length / 20)));
        mean.Color = run.Line;
        mean.MarkerSize = 0;
        mean.LineWidth = 2.5f;
        mean.LegendText = label;
    }

    /// <summary>Draws evaluations as points, with bars where the run has their intervals.</summary>
    private static void DrawEvaluations(ScottPlot.Plot plot, PlottedRun run, string metric, string label)
    {
        var (steps, values) = MetricsWriter.Read(run.Metrics, metric);
        if (steps.Length == 0)
            return;
        double[] xs = [.. steps.Select(s => (double)s)];
        var (lowSteps, low) = MetricsWriter.Read(run.Metrics, metric + "_low");
        var (highSteps, high) = MetricsWriter.Read(run.Metrics, metric + "_high");
        if (lowSteps.AsSpan().SequenceEqual(steps) && highSteps.AsSpan().SequenceEqual(steps))
        {
            double[] below = [.. values.Zip(low, (value, end) => value - end)];
            double[] above = [.. values.Zip(high, (value, end) => end - value)];
            var bars = new ScottPlot.Plottables.ErrorBar(xs, values, null, null, below, above);
            plot.PlottableList.Add(bars);
            bars.Color = run.Points;
            bars.LineWidth = 1.5f;
        }

        var points = plot.Add.ScatterPoints(xs, values);
        points.Color = run.Points;
        points.MarkerSize = 8;
        points.LegendText = label;
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
