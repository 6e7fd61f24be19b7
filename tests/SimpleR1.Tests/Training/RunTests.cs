using System.Buffers.Binary;
using System.Text.Json.Nodes;
using SimpleR1.Cluster;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Evaluations;
using SimpleR1.Training.Runs.Files;
using Xunit;

namespace SimpleR1.Tests.Training;

public sealed class RunTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-runs-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private static Dictionary<string, double> Values(double reward) =>
        new() { ["reward"] = reward, ["loss/kl"] = 0.25 };

    [Fact]
    public void RunFolder_that_exists_is_refused_resumed_or_replaced_as_asked()
    {
        var run = RunFolder.Open(folder, "a");
        File.WriteAllText(run.Recipe, "name: a\n");
        Assert.Contains("--resume", Assert.Throws<IOException>(() => RunFolder.Open(folder, "a")).Message);
        Assert.Equal(run.Path, RunFolder.Open(folder, "a", ExistingRun.Resume).Path);
        Assert.True(File.Exists(run.Recipe));
        RunFolder.Open(folder, "a", ExistingRun.Overwrite);
        Assert.False(File.Exists(run.Recipe));
        Assert.Contains(
            "no run of this name to resume",
            Assert.Throws<IOException>(() => RunFolder.Open(folder, "b", ExistingRun.Resume)).Message
        );
    }

    [Fact]
    public void RunFolder_does_not_overwrite_what_is_no_run()
    {
        Directory.CreateDirectory(Path.Combine(folder, "precious"));
        File.WriteAllText(Path.Combine(folder, "precious", "thesis.txt"), "x");
        Assert.Contains(
            "will not be overwritten",
            Assert.Throws<IOException>(() => RunFolder.Open(folder, "precious", ExistingRun.Overwrite)).Message
        );
        Assert.True(File.Exists(Path.Combine(folder, "precious", "thesis.txt")));
    }

    [Fact]
    public void Metrics_of_a_resumed_run_lose_the_rows_after_the_checkpoint()
    {
        var run = RunFolder.Open(folder, "m");
        using (var metrics = new MetricsWriter(run))
            for (int step = 1; step <= 5; step++)
            {
                metrics.Write(step, Values(step));
                Assert.Equal(step, JsonLines.Read(run.Metrics).Count()); // readable while being written
            }
        File.AppendAllText(run.Metrics, "{\"step\": 6, \"rew"); // cut short by a crash
        using (var metrics = new MetricsWriter(run, resumedStep: 3))
        {
            metrics.Write(4, Values(-4));
            metrics.Write(5, Values(double.NaN));
        }
        var (steps, values) = MetricsWriter.Read(run.Metrics, "reward");
        Assert.Equal([1, 2, 3, 4], steps);
        Assert.Equal([1, 2, 3, -4], values);
        Assert.Equal("NaN", (string)JsonLines.Read(run.Metrics).Last()["reward"]!);
        File.WriteAllText(run.Metrics, "{\"step\": 1\n{\"step\": 2}\n");
        Assert.Contains(
            "metrics.jsonl:1",
            Assert.Throws<InvalidDataException>(() => JsonLines.Read(run.Metrics).ToList()).Message
        );
    }

    [Fact]
    public void Samples_are_readable_and_cut_on_resume()
    {
        var run = RunFolder.Open(folder, "s");
        var score = new Score(1.5, new Dictionary<string, double> { ["accuracy"] = 1, ["format"] = 0.5 });
        using (var samples = new SamplesWriter(run))
            for (int step = 1; step <= 3; step++)
                samples.Write(
                    new()
                    {
                        Step = step,
                        Question = "Was ist 2 < 3 + 4?",
                        Answer = "ja",
                        Completion = "<think>ü 😀</think>",
                        Score = score,
                        Tokens = 7,
                        Truncated = false,
                    }
                );
        using (new SamplesWriter(run, resumedStep: 2)) { }
        string[] lines = File.ReadAllLines(run.Samples);
        Assert.Equal(2, lines.Length);
        Assert.Contains("<think>ü", lines[0]);
        Assert.Equal(0.5, (double)JsonNode.Parse(lines[1])!["rewards"]!["format"]!);
    }

    [Fact]
    public void Plot_of_a_run_is_a_png_with_its_curves()
    {
        var run = RunFolder.Open(folder, "p");
        var random = new Random(1);
        using (var metrics = new MetricsWriter(run))
            for (int step = 1; step <= 120; step++)
            {
                double learnt = 1 / (1 + Math.Exp((60 - step) / 12.0));
                var row = new Dictionary<string, double>
                {
                    ["reward"] = learnt + 0.1 * random.NextDouble(),
                    ["accuracy"] = learnt * 0.9 + 0.1 * random.NextDouble(),
                    ["completion_length"] = 40 + 30 * learnt + 5 * random.NextDouble(),
                };
                if (step % 20 == 0)
                    row["evaluation_accuracy"] = learnt * 0.85;
                metrics.Write(step, row);
            }
        Plot.Write([run.Path], run.Plot);
        byte[] png = File.ReadAllBytes(run.Plot);
        Assert.Equal([0x89, (byte)'P', (byte)'N', (byte)'G'], png[..4]);
        Assert.Equal(
            (900, 1000),
            (BinaryPrimitives.ReadInt32BigEndian(png.AsSpan(16)), BinaryPrimitives.ReadInt32BigEndian(png.AsSpan(20)))
        );
        using var image = SkiaSharp.SKBitmap.Decode(png);
        var title = Enumerable.Range(0, 30 * image.Width).Select(i => image.GetPixel(i % image.Width, i / image.Width));
        Assert.True(
            title.Count(p => p.Red < 100) > 50,
            "the title is missing: text needs the font that the project brings"
        );
        if (Environment.GetEnvironmentVariable("SIMPLE_R1_KEEP_PLOT") is { Length: > 0 } keep)
            File.Copy(run.Plot, keep, overwrite: true);
        File.WriteAllText(run.Metrics, "{\"step\":1}\n");
        Assert.Contains(
            "none of reward",
            Assert.Throws<InvalidDataException>(() => Plot.Write([run.Path], run.Plot)).Message
        );
    }

    /// <summary>Reference values of statsmodels' proportion_confint(method="wilson").</summary>
    [Theory]
    [InlineData(0, 10, 0, 0.2775327998628892)]
    [InlineData(10, 10, 0.7224672001371108, 1)]
    [InlineData(350, 500, 0.6584, 0.7385)]
    [InlineData(5, 10, 0.2365930905125640, 0.7634069094874360)]
    public void Wilson_interval_is_the_published_one(int successes, int trials, double low, double high)
    {
        var interval = Statistics.Wilson(successes, trials);
        double tolerance = trials == 500 ? 1e-4 : 1e-12;
        Assert.Equal(low, interval.Low, tolerance);
        Assert.Equal(high, interval.High, tolerance);
        Assert.Equal((double)successes / trials, interval.Estimate);
    }

    [Fact]
    public void Bootstrap_of_a_mean_agrees_with_the_normal_interval_for_many_values()
    {
        var random = new Random(2);
        double[] values = [.. Enumerable.Range(0, 2000).Select(_ => random.NextDouble())];
        var interval = Statistics.BootstrapMean(values);
        double half = 1.96 * Math.Sqrt(1.0 / 12 / values.Length);
        Assert.Equal(interval.Estimate - half, interval.Low, 0.15 * half);
        Assert.Equal(interval.Estimate + half, interval.High, 0.15 * half);
        Assert.Equal(interval, Statistics.BootstrapMean(values));
        Assert.Equal("50.0% [23.7, 76.3]", Statistics.Wilson(5, 10).Percent);
    }

    [Fact]
    public void Peak_memory_grows_with_what_was_held()
    {
        Assert.SkipUnless(File.Exists("/proc/self/status"), "needs Linux's /proc");
        long before = ProcessMemory.Peak(Environment.ProcessId);
        byte[] held = new byte[300 << 20];
        Array.Fill(held, (byte)1);
        Assert.True(ProcessMemory.Peak(Environment.ProcessId) >= 300 << 20);
        Assert.True(ProcessMemory.Peak(Environment.ProcessId) >= before);
        Assert.Equal(0, ProcessMemory.Peak(int.MaxValue));
        GC.KeepAlive(held);
    }
}
