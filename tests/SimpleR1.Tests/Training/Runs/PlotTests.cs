using System.Buffers.Binary;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Results;
using SkiaSharp;
using Xunit;

namespace SimpleR1.Tests.Training.Runs;

public sealed class PlotTests : IDisposable
{
    private const int TitleHeight = 40;

    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-plots-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    /// <summary>A run that learns around a step, evaluated every 20.</summary>
    private string Write(string name, int learns, bool intervals = true)
    {
        var run = RunFolder.Open(folder, name);
        var random = new Random(learns);
        using var metrics = new MetricsWriter(run);
        for (int step = 1; step <= 120; step++)
        {
            double learnt = 1 / (1 + Math.Exp((learns - step) / 12.0));
            var row = new Dictionary<string, double>
            {
                ["reward"] = learnt + 0.1 * random.NextDouble(),
                ["accuracy"] = learnt * 0.9 + 0.1 * random.NextDouble(),
                ["completion_length"] = 40 + 30 * learnt + 5 * random.NextDouble(),
            };
            metrics.Write(step, row);
            if (step % 20 != 0)
                continue;
            var evaluation = new Dictionary<string, double> { ["evaluation_accuracy"] = learnt * 0.8 };
            if (intervals)
            {
                evaluation["evaluation_accuracy_low"] = learnt * 0.8 - 0.1;
                evaluation["evaluation_accuracy_high"] = learnt * 0.8 + 0.2;
            }
            metrics.Write(step, evaluation);
        }
        return run.Path;
    }

    private SKBitmap Draw(params string[] runs)
    {
        string png = Path.Combine(folder, "plot.png");
        Plot.Write(runs, png);
        byte[] bytes = File.ReadAllBytes(png);
        Assert.Equal([0x89, (byte)'P', (byte)'N', (byte)'G'], bytes[..4]);
        Assert.Equal(
            (900, 1000),
            (
                BinaryPrimitives.ReadInt32BigEndian(bytes.AsSpan(16)),
                BinaryPrimitives.ReadInt32BigEndian(bytes.AsSpan(20))
            )
        );
        if (Environment.GetEnvironmentVariable("SIMPLE_R1_KEEP_PLOT") is { Length: > 0 } keep)
            File.Copy(png, Path.Combine(keep, $"plot-{runs.Length}.png"), overwrite: true);
        return SKBitmap.Decode(bytes);
    }

    private static int Count(SKBitmap image, int rows, Func<SKColor, bool> matches)
    {
        int found = 0;
        for (int y = 0; y < rows; y++)
        for (int x = 0; x < image.Width; x++)
            found += matches(image.GetPixel(x, y)) ? 1 : 0;
        return found;
    }

    /// <summary>The colour of ScottPlot's category, without what antialiasing makes of it.</summary>
    private static bool IsNear(SKColor pixel, SKColor color) =>
        Math.Abs(pixel.Red - color.Red) + Math.Abs(pixel.Green - color.Green) + Math.Abs(pixel.Blue - color.Blue) < 24;

    [Fact]
    public void Plot_over_time_needs_a_run_that_knows_its_time()
    {
        string run = Write("old", 60);
        string png = Path.Combine(folder, "time.png");
        var options = new PlotOptions { Axis = RunAxis.Time, Metrics = ["reward", "evaluation_accuracy"] };
        Assert.Contains(
            "no elapsed_step_seconds to plot over; use --by step",
            Assert.Throws<InvalidDataException>(() => Plot.Write([run], png, options)).Message
        );
        using (var metrics = new MetricsWriter(RunFolder.Find(folder, "old"), resumedStep: 120))
            metrics.Write(121, [new("evaluation_accuracy", 0.5), .. new ElapsedTime(9, 7).Metrics()]);
        Plot.Write([run], png, options);
        using var image = SKBitmap.Decode(png);
        Assert.Equal((900, 44 + 956 * 2 / 3), (image.Width, image.Height)); // two panels
    }

    [Fact]
    public void Plot_of_a_run_has_its_title_its_curves_and_bars_at_its_evaluations()
    {
        using var plain = Draw(Write("plain", 60, intervals: false));
        using var image = Draw(Write("bars", 60));
        Assert.True(
            Count(image, TitleHeight, p => p.Red < 100) > 50,
            "the title is missing: text needs the font that the project brings"
        );
        var orange = new SKColor(255, 127, 14); // the second category: evaluations
        int points = Count(plain, plain.Height, p => IsNear(p, orange));
        int withBars = Count(image, image.Height, p => IsNear(p, orange));
        Assert.True(points > 100, $"{points} pixels of points");
        Assert.True(withBars > points + 150, $"{withBars} pixels with bars, {points} without");
    }

    [Fact]
    public void Plot_of_several_runs_has_a_colour_for_each()
    {
        using var one = Draw(Write("a", 40));
        using var two = Draw(Write("a2", 40), Write("b", 80));
        var orange = new SKColor(255, 127, 14);
        int panel = one.Height / 3; // reward: no evaluations
        Assert.Equal(0, Count(one, panel, p => IsNear(p, orange)));
        Assert.True(Count(two, panel, p => IsNear(p, orange)) > 200);
    }

    [Fact]
    public void Plot_without_metrics_names_the_file()
    {
        string run = Write("empty", 60);
        File.WriteAllText(Path.Combine(run, "metrics.jsonl"), "{\"step\":1}\n");
        string png = Path.Combine(folder, "none.png");
        Assert.Contains("none of reward", Assert.Throws<InvalidDataException>(() => Plot.Write([run], png)).Message);
        Assert.Contains(
            Path.Combine(folder, "nobody"),
            Assert.Throws<FileNotFoundException>(() => Plot.Write([Path.Combine(folder, "nobody")], png)).Message
        );
        Assert.False(File.Exists(png));
    }
}
