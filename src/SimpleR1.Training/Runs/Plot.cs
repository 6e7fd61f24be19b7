using ScottPlot;
using SimpleR1.Training.Runs.Results;
using SkiaSharp;

namespace SimpleR1.Training.Runs;

/// <summary>What a picture of runs shows, and over what.</summary>
public sealed record PlotOptions
{
    /// <summary>The metrics that have a panel.</summary>
    public IReadOnlyList<string> Metrics { get; init; } = ["reward", "accuracy", "completion_length"];
    public RunAxis Axis { get; init; } = RunAxis.Step;

    /// <summary>Pixels.</summary>
    public int Width { get; init; } = 900;
}

/// <summary>
/// The picture of one or several runs: metrics over their steps or their time. A line is what training sampled; points
/// with bars are evaluations and their 95% intervals.
/// </summary>
public static class Plot
{
    private const int TitleHeight = 44; // pixels
    private const int PanelsHeight = 956; // of three panels
    private const int LeftWidth = 64; // of every panel, so that their axes are aligned
    private const string EvaluationPrefix = "evaluation_";

    /// <summary>A metric, with what evaluations say of it where they do.</summary>
    /// <param name="Line">What training samples; null where only evaluations have the metric.</param>
    /// <param name="Evaluation">Null where no evaluation is shown.</param>
    private sealed record Panel(string Title, string? Line, string? Evaluation = null)
    {
        public IEnumerable<string> Metrics => new[] { Line, Evaluation }.OfType<string>();

        /// <summary>True where the metric is a share of all answers.</summary>
        public bool IsShare => Metrics.All(name => name.EndsWith("accuracy", StringComparison.Ordinal));

        public static Panel Of(string metric) =>
            metric switch
            {
                "accuracy" => new("accuracy", metric, EvaluationPrefix + metric),
                "completion_length" => new("completion length, tokens", metric),
                _ when metric.StartsWith(EvaluationPrefix, StringComparison.Ordinal) => new(metric, null, metric),
                _ => new(metric, metric),
            };
    }

    /// <summary>A run with its name and its colours in the picture.</summary>
    private sealed record PlottedRun(string Name, RunMetrics Metrics, Color Line, Color Points);

    /// <summary>Draws runs' metrics into one PNG file.</summary>
    /// <exception cref="FileNotFoundException">A folder has no metrics.</exception>
    /// <exception cref="InvalidDataException">A run has none of the metrics, or no time to show them over.</exception>
    public static void Write(IReadOnlyList<string> runFolders, string pngPath, PlotOptions? options = null)
    {
        options ??= new();
        using var typeface = PlotFont.Load();
        Panel[] panels = [.. options.Metrics.Select(Panel.Of)];
        var runs = Find(runFolders, panels, options.Axis);
        var figure = new Multiplot();
        figure.AddPlots(panels.Length);
        for (int i = 0; i < panels.Length; i++)
            new PanelDrawing(figure.GetPlot(i), panels[i], options.Axis, runs).Draw(isFirst: i == 0);
        figure.GetPlot(panels.Length - 1).XLabel(options.Axis.Label);
        AlignAxes(figure, panels, options.Axis, runs);

        // The panels below the title
        int panelsHeight = PanelsHeight * panels.Length / 3;
        using var drawn = SKSurface.Create(new SKImageInfo(options.Width, panelsHeight));
        figure.Render(drawn);
        using var surface = SKSurface.Create(new SKImageInfo(options.Width, TitleHeight + panelsHeight));
        surface.Canvas.Clear(SKColors.White);
        DrawTitle(surface.Canvas, string.Join(", ", runs.Select(r => r.Name)), options.Width, typeface);
        surface.Canvas.DrawSurface(drawn, 0, TitleHeight);
        using var image = surface.Snapshot();
        using var png = image.Encode(SKEncodedImageFormat.Png, 100);
        using var file = File.Create(pngPath);
        png.SaveTo(file);
    }

    private static List<PlottedRun> Find(IReadOnlyList<string> folders, Panel[] panels, RunAxis axis)
    {
        string[] names =
        [
            .. folders.Select(f => Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(f)))),
        ];
        string[] shown = [.. panels.SelectMany(p => p.Metrics).Distinct()];
        bool areDistinct = names.Distinct(StringComparer.Ordinal).Count() == names.Length;
        var palette = new ScottPlot.Palettes.Category10();
        var runs = new List<PlottedRun>();
        for (int i = 0; i < folders.Count; i++)
        {
            string path = Path.Combine(folders[i], "metrics.jsonl");
            if (!File.Exists(path))
                throw new FileNotFoundException($"no metrics to plot: {path}", path);
            var metrics = RunMetrics.Read(path);
            if (shown.All(m => metrics.Points(m, RunAxis.Step).Count == 0))
                throw new InvalidDataException($"{path}: none of {string.Join(", ", shown)} to plot");
            if (shown.All(m => metrics.Points(m, axis).Count == 0))
                throw new InvalidDataException($"{path}: no {axis.Metric} to plot over; use --by step");
            int points = folders.Count > 1 ? i : i + 1; // one run has a second colour for its evaluations
            runs.Add(new(areDistinct ? names[i] : folders[i], metrics, palette.GetColor(i), palette.GetColor(points)));
        }
        return runs;
    }

    /// <summary>Gives every panel the same steps or times at the same place.</summary>
    private static void AlignAxes(Multiplot figure, Panel[] panels, RunAxis axis, List<PlottedRun> runs)
    {
        double[] xs =
        [
            .. from run in runs
            from metric in panels.SelectMany(p => p.Metrics)
            from point in run.Metrics.Points(metric, axis)
            select point.X,
        ];
        double least = axis == RunAxis.Step ? 0.5 : 0.01;
        double margin = Math.Max(least, 0.03 * (xs.Max() - xs.Min()));
        foreach (var plot in figure.GetPlots())
        {
            plot.Axes.Left.MinimumSize = LeftWidth;
            plot.Axes.Left.MaximumSize = LeftWidth;
            plot.Axes.SetLimitsX(xs.Min() - margin, xs.Max() + margin);
        }
    }

    private static void DrawTitle(SKCanvas canvas, string title, int width, SKTypeface typeface)
    {
        using var font = new SKFont(typeface, 20);
        using var paint = new SKPaint { Color = SKColors.Black, IsAntialias = true };
        float wide = font.MeasureText(title);
        if (wide > width - 20)
            font.Size *= (width - 20) / wide;
        canvas.DrawText(title, width / 2f, TitleHeight - 12, SKTextAlign.Center, font, paint);
    }

    /// <summary>One panel while it is drawn.</summary>
    private sealed class PanelDrawing(ScottPlot.Plot plot, Panel panel, RunAxis axis, List<PlottedRun> runs)
    {
        private readonly bool isAlone = runs.Count == 1;

        public void Draw(bool isFirst)
        {
            bool hasBoth = panel is { Line: not null, Evaluation: not null };
            foreach (var run in runs)
            {
                string name = isAlone && hasBoth ? "training samples" : "";
                string label = isAlone || !isFirst ? name : run.Name;
                if (panel.Line is not null)
                    DrawLine(run, run.Metrics.Points(panel.Line, axis), label);
                if (panel.Evaluation is null)
                    continue;
                label = panel.Line is null && isFirst ? run.Name : "";
                DrawEvaluations(
                    run,
                    run.Metrics.Points(panel.Evaluation, axis),
                    isAlone ? "evaluation, with 95% interval" : label
                );
            }
            bool explains = panel.Evaluation is not null && !isAlone;
            plot.Title(explains ? $"{panel.Title} (points: evaluation, with 95% interval)" : panel.Title, 15);
            if (isAlone ? panel.Evaluation is not null : isFirst)
                plot.ShowLegend(Alignment.LowerRight);
            if (panel.IsShare)
                plot.Axes.SetLimitsY(-0.02, 1.02);
        }

        /// <summary>Draws many steps faintly with their running mean over them, few as points joined by a line.</summary>
        private void DrawLine(PlottedRun run, IReadOnlyList<MetricPoint> points, string label)
        {
            if (points.Count == 0)
                return;
            double[] xs = [.. points.Select(p => p.X)];
            double[] values = [.. points.Select(p => p.Value)];
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
        private void DrawEvaluations(PlottedRun run, IReadOnlyList<MetricPoint> points, string label)
        {
            if (points.Count == 0)
                return;
            MetricPoint[] measured = [.. points.Where(p => p.Interval is not null)];
            if (measured.Length > 0)
            {
                double[] below = [.. measured.Select(p => p.Value - p.Interval!.Value.Low)];
                double[] above = [.. measured.Select(p => p.Interval!.Value.High - p.Value)];
                double[] centres = [.. measured.Select(p => p.X)];
                double[] values = [.. measured.Select(p => p.Value)];
                var bars = new ScottPlot.Plottables.ErrorBar(centres, values, null, null, below, above);
                plot.PlottableList.Add(bars);
                bars.Color = run.Points;
                bars.LineWidth = 1.5f;
            }

            double[] xs = [.. points.Select(p => p.X)];
            var dots = plot.Add.ScatterPoints(xs, [.. points.Select(p => p.Value)]);
            dots.Color = run.Points;
            dots.MarkerSize = 8;
            dots.LegendText = label;
        }

        private static double[] RunningMean(double[] values, int window) =>
            [.. values.Select((_, i) => values[Math.Max(0, i - window + 1)..(i + 1)].Average())];
    }
}
