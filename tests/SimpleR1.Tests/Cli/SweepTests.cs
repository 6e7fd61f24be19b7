using SimpleR1.Commands.Training;
using SimpleR1.Training.Runs.Files;
using Xunit;

namespace SimpleR1.Tests.Cli;

/// <summary>Sweeps by the real program: stopped, resumed, with their table.</summary>
public sealed class SweepTests : IDisposable
{
    private readonly string runs = Directory.CreateTempSubdirectory("simple-r1-cli-").FullName;

    public void Dispose() => Directory.Delete(runs, recursive: true);

    private string[] Sweep(params string[] more) =>
        TrainRun.Command(
            runs,
            "s",
            [
                .. TrainRun.Set(
                    "training.steps=2",
                    "training.evaluate_every=0",
                    "algorithm.mini_batches=1",
                    "algorithm.kl_coefficient=0"
                ),
                "--sweep",
                "seed=1,2",
                .. more,
            ]
        );

    private string In(params string[] path) => Path.Combine([runs, .. path]);

    [Fact]
    public async Task Sweep_is_stopped_in_its_second_run_and_resumed_and_ends_with_a_table()
    {
        var (code, output, errors) = await ProgramRun.RunAsync(Sweep("--dry-run"));
        Assert.True(code == 0, output + errors);
        Assert.Contains("s-seed=1:", output);
        Assert.Contains("s-seed=2:", output);
        Assert.Empty(Directory.GetFileSystemEntries(runs));

        using (var first = ProgramRun.Start(Sweep()))
        {
            await first.SaysAsync("run 2 of 2: s-seed=2");
            first.Signal(ProgramRun.Interrupt);
            Assert.Equal(130, await first.EndAsync());
            Assert.Contains("min to 35%", first.Output); // the table of what there is
            await first.WorkersEndAsync();
        }
        Assert.Single(Finished());

        (code, output, errors) = await ProgramRun.RunAsync(Sweep("--resume"));
        Assert.True(code == 0 && errors == "", output + errors);
        Assert.Contains("run 1 of 2: s-seed=1\nfinished before\n", output);
        Assert.Equal(["s-seed=1", "s-seed=2"], Finished());
        string page = File.ReadAllText(In("s-sweep", "results.md"));
        Assert.Contains("| s | 1 2 |", page);
        Assert.Contains("--sweep seed=1,2", page);
        Assert.DoesNotContain(runs, page);
        Assert.True(File.Exists(In("s-sweep", "results.png")));

        string[] command = ["results", In("s-seed=1"), In("s-seed=2"), "--by", "step", "--thresholds", "0.01"];
        (code, output, errors) = await ProgramRun.RunAsync(command);
        Assert.True(code == 0, errors);
        Assert.Contains("step to 1%", output);
        (code, output, errors) = await ProgramRun.RunAsync(
            "plot",
            In("s-seed=1"),
            In("s-seed=2"),
            "--by",
            "time",
            "--metrics",
            "evaluation_accuracy,step_seconds",
            "--output",
            In("time.png")
        );
        Assert.True(code == 0, errors);
        Assert.True(new FileInfo(In("time.png")).Length > 5_000);
    }

    [Fact]
    public async Task Run_that_fails_does_not_keep_the_next_from_starting()
    {
        string[] command = Sweep("--sweep", "optimizer.learning_rate=3e38,1e-5", "--set", "data.evaluation=");
        command = [.. command.Select(word => word == "seed=1,2" ? "seed=1" : word)];
        var (code, output, errors) = await ProgramRun.RunAsync(command);
        Assert.Equal(1, code);
        Assert.Contains("not finite", errors);
        Assert.Contains("failed: s-seed=1-learning_rate=3e38; continue with: simple-r1 train", output);
        Assert.Equal(["s-seed=1-learning_rate=1e-5"], Finished());
    }

    [Theory]
    [InlineData("--key", "SECRET")]
    [InlineData("--key=SECRET")]
    [InlineData("--key:SECRET")]
    public void Command_line_that_a_run_keeps_has_no_key(params string[] key)
    {
        var parse = TrainCommand.Create().Parse(["r.yaml", .. key, "--sweep", "rollout.stop=[\"a\"]", "--overwrite"]);
        Assert.Equal("simple-r1 r.yaml --sweep 'rollout.stop=[\"a\"]' --overwrite", ResumeCommand.Given(parse));
        Assert.Equal("simple-r1 r.yaml --sweep 'rollout.stop=[\"a\"]' --resume", ResumeCommand.For(parse));
    }

    /// <summary>The runs that have made both steps.</summary>
    private string?[] Finished() =>
        [
            .. Directory
                .GetDirectories(runs)
                .Where(run => File.Exists(Path.Combine(run, "metrics.jsonl")))
                .Where(run => JsonLines.Read(Path.Combine(run, "metrics.jsonl")).Any(row => (int)row["step"]! == 2))
                .Select(Path.GetFileName)
                .Order(StringComparer.Ordinal),
        ];
}
