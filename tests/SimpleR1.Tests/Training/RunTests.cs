using System.Text.Json.Nodes;
using SimpleR1.Cluster;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Files;
using SimpleR1.Training.Runs.Results;
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
        var points = RunMetrics.Read(run.Metrics).Points("reward", RunAxis.Step);
        Assert.Equal([1, 2, 3, 4], points.Select(p => p.Step));
        Assert.Equal([1, 2, 3, -4], points.Select(p => p.Value));
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
