using System.Diagnostics;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Files;
using Xunit;

namespace SimpleR1.Tests.Cli;

/// <summary>
/// Runs by the real program that something disturbs: signals, lost workers, damaged files, failing rewards, a full
/// disk.
/// </summary>
[Collection<TrainRuns>]
public sealed class TrainFailureTests(UninterruptedRun uninterrupted) : IDisposable
{
    private readonly string runs = Directory.CreateTempSubdirectory("simple-r1-cli-").FullName;

    public void Dispose() => Directory.Delete(runs, recursive: true);

    private string[] Train(string name, params string[] more) => TrainRun.Command(runs, name, more);

    private string In(string name, params string[] path) => Path.Combine([runs, name, .. path]);

    [Fact]
    public async Task Damaged_checkpoint_is_named_and_the_one_before_takes_its_place()
    {
        uninterrupted.Copy(runs);
        string last = In("a", "checkpoints", "step-000010"),
            file = Path.Combine(last, "optimizer.safetensors");
        byte[] bytes = File.ReadAllBytes(file);
        bytes[^1] ^= 1;
        File.WriteAllBytes(file, bytes);
        var (code, _, errors) = await ProgramRun.RunAsync(Train("a", "--resume"));
        Assert.Equal(1, code);
        Assert.Contains($"Delete {last} to resume from the checkpoint before it", errors);
        Assert.Contains("optimizer.safetensors has other contents", errors);
        Directory.Delete(last, recursive: true);
        (code, var output, errors) = await ProgramRun.RunAsync(Train("a", "--resume"));
        Assert.True(code == 0, output + errors);
        Assert.Contains("resumed after step 9", output);
        uninterrupted.AssertSame(In("a"));
    }

    [Fact]
    public async Task Second_interrupt_ends_at_once_and_killed_trainer_leaves_no_worker()
    {
        using var run = ProgramRun.Start(Train("a", TrainRun.Set("training.steps=1000", "data.evaluation.count=4000")));
        await Condition(
            () => run.Workers().Length == 1 && File.Exists(In("a", "metrics.jsonl")),
            "the start of the workers",
            run
        );
        Assert.Equal(1, (await ProgramRun.RunAsync(Train("a", "--overwrite"))).Code); // another process is at it
        run.Signal(ProgramRun.Interrupt); // as it answers 4000 problems or before
        await run.SaysAsync("again: stop at once");
        run.Signal(ProgramRun.Interrupt);
        Assert.Equal(130, await run.EndAsync());
        await run.WorkersEndAsync();

        using var killed = ProgramRun.Start(Train("b", TrainRun.Set("training.steps=1000")));
        await killed.SaysAsync("step 1/1000");
        killed.Signal(ProgramRun.Kill);
        Assert.Equal(128 + ProgramRun.Kill, await killed.EndAsync());
        await killed.WorkersEndAsync();
    }

    [Fact]
    public async Task Interrupt_during_an_evaluation_saves_and_the_run_can_go_on()
    {
        using var run = ProgramRun.Start(
            Train("a", TrainRun.Set("training.steps=1", "data.evaluation.count=4000", "training.evaluate_every=0"))
        );
        await Condition(() => File.Exists(In("a", "recipe.yaml")), "the start of the run", run);
        run.Signal(ProgramRun.Interrupt);
        Assert.Equal(130, await run.EndAsync());
        Assert.Contains("stopped after step 0 and saved", run.Output);
        var (code, output, errors) = await ProgramRun.RunAsync(
            Train(
                "a",
                [.. TrainRun.Set("training.steps=1", "training.evaluate_every=0"), "--resume", "--allow-changed-data"]
            )
        ); // fewer held-out problems leave more to train on
        Assert.True(code == 0, output + errors);
        Assert.Contains("evaluation after step 0", output);
        Assert.Contains("evaluation after step 1", output);
    }

    /// <summary>A shell ignores SIGINT for what it starts with &amp; in a script, and children inherit that.</summary>
    [Fact]
    public async Task Program_that_was_started_with_SIGINT_ignored_can_be_interrupted()
    {
        using var run = ProgramRun.StartBy(["env", "--ignore-signal=INT"], Train("a"));
        await run.SaysAsync("step 1/10");
        run.Signal(ProgramRun.Interrupt);
        Assert.Equal(130, await run.EndAsync());
        Assert.Contains("stopped after step ", run.Output);
    }

    [Fact]
    public async Task Overwriting_run_that_fails_before_its_first_step_leaves_the_run_that_was_there()
    {
        uninterrupted.Copy(runs);
        string file = Path.Combine(runs, "Reward.cs");
        File.WriteAllText(
            file,
            "public static class R { public static double Bad(RewardInput i) => throw new FormatException(); }"
        );
        string[] replacing =
        [
            .. TrainRun.Set($"rewards=[{{name: Bad, file: {file}}}]", "data.evaluation=", "training.evaluate_every=0"),
            "--overwrite",
        ];
        var (code, output, errors) = await ProgramRun.RunAsync(Train("a", replacing));
        Assert.Equal(1, code);
        Assert.Contains("holds the run that was there before", output);
        Assert.Contains("start again with the same command", errors);
        uninterrupted.AssertSame(In("a"));
        Assert.False(Directory.Exists(In("a.former")));
    }

    [Fact]
    public async Task Killed_worker_costs_time_and_changes_nothing()
    {
        using var run = ProgramRun.Start(Train("a", TrainRun.Set("workers.count=2")));
        await run.SaysAsync("step 2/10");
        ProgramRun.SendSignal(run.Workers()[0], ProgramRun.Kill);
        Assert.Equal(0, await run.EndAsync());
        Assert.Contains("was lost and is replaced", run.Output);
        Assert.Contains("SIGKILL", run.Output);
        uninterrupted.AssertSame(In("a")); // which had one worker only
    }

    [Fact]
    public async Task Reward_that_throws_stops_the_run_names_the_sample_and_saves_the_last_whole_step()
    {
        string file = Path.Combine(runs, "Reward.cs");
        File.WriteAllText(
            file,
            """
            public static class Mine
            {
                private static int calls;
                public static double Fragile(RewardInput input) =>
                    ++calls > 40 ? throw new FormatException("41 is too many") : input.Completion.Length % 7;
            }
            """
        );
        var (code, output, errors) = await ProgramRun.RunAsync(
            Train(
                "a",
                TrainRun.Set(
                    $"rewards=[{{name: Fragile, file: {file}}}]",
                    "training.evaluate_every=0",
                    "data.evaluation.count=1"
                )
            )
        );
        Assert.Equal(1, code);
        Assert.Contains($"the reward 'Fragile' threw FormatException: 41 is too many ({file}:5)", errors);
        Assert.Matches(@"problem: \S+\n +gold answer: \d+\n +completion: ", errors);
        Assert.Contains($"in full: {In("a", "failed-reward.jsonl")}", errors);
        Assert.Contains("\"reward\":\"Fragile\"", File.ReadAllText(In("a", "failed-reward.jsonl")));
        Assert.Contains($"The last whole step was saved: {In("a", "checkpoints", "step-000002")}", errors);
        Assert.DoesNotContain("   at ", errors); // no stack trace
        Assert.Equal(2, RunState.Read(In("a", "checkpoints", "step-000002")).Step);
        Assert.Contains("step 2/", output);
    }

    [Fact]
    public async Task Full_disk_leaves_the_earlier_checkpoint_and_says_what_to_do()
    {
        string disk = Directory.CreateDirectory(In("disk")).FullName;
        Assert.SkipUnless(
            Shell("mount", "-t", "tmpfs", "-o", "size=16m", "none", disk) == 0,
            "needs the right to mount a small disk (root)"
        );
        try
        {
            string[] command = Train(
                    "a",
                    [
                        .. TrainRun.Set("training.steps=2", "training.evaluate_every=0", "training.checkpoint_every=1"),
                        "--runs",
                        disk,
                    ]
                )
                .Where((_, i) => i is not (2 or 3))
                .ToArray(); // a checkpoint takes 10 MB
            using var run = ProgramRun.Start(command);
            Assert.Equal(1, await run.EndAsync());
            await run.WorkersEndAsync();
            Assert.Contains("disk full while writing", run.Errors);
            Assert.Contains("Free some space", run.Errors);
            Assert.DoesNotContain("   at ", run.Errors);
            Assert.Equal(
                ["step-000001"],
                Directory.GetDirectories(Path.Combine(disk, "a", "checkpoints")).Select(Path.GetFileName)
            );
            AtomicFolder.Verify(Path.Combine(disk, "a", "checkpoints", "step-000001"));
            Assert.Equal(0, Shell("mount", "-o", "remount,size=64m", disk));
            var (code, output, errors) = await ProgramRun.RunAsync([.. command, "--resume"]);
            Assert.True(code == 0, output + errors);
            Assert.Contains("resumed after step 1", output);
        }
        finally
        {
            Shell("umount", disk);
        }
    }

    private static int Shell(string program, params string[] arguments)
    {
        using var process = Process.Start(
            new ProcessStartInfo(program, arguments) { RedirectStandardError = true, RedirectStandardOutput = true }
        )!;
        process.WaitForExit();
        return process.ExitCode;
    }

    private static async Task Condition(Func<bool> condition, string awaited, ProgramRun run)
    {
        for (var clock = Stopwatch.StartNew(); !condition(); await Task.Delay(10))
            if (run.HasEnded || clock.Elapsed > TimeSpan.FromSeconds(60))
                throw new TimeoutException(
                    $"waited {clock.Elapsed.TotalSeconds:F0} s for {awaited}:\n{run.Output}\n{run.Errors}"
                );
    }
}
