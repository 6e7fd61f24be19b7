using System.Diagnostics;
using SimpleR1.Cluster.Membership;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;
using Xunit;

namespace SimpleR1.Tests.Cli;

/// <summary>Whole runs by the real program: what they write, how they stop, and how they go on.</summary>
public sealed class TrainTests(TrainTests.Uninterrupted whole) : IClassFixture<TrainTests.Uninterrupted>, IDisposable
{
    private readonly string runs = Directory.CreateTempSubdirectory("simple-r1-cli-").FullName;

    public void Dispose() => Directory.Delete(runs, recursive: true);

    /// <summary>A run of ten steps that nothing disturbs, which others are compared with.</summary>
    public sealed class Uninterrupted : IAsyncLifetime
    {
        public string Runs { get; } = Directory.CreateTempSubdirectory("simple-r1-cli-").FullName;
        public string Folder => Path.Combine(Runs, "a");
        public string Output { get; private set; } = "";

        public async ValueTask InitializeAsync()
        {
            (int code, Output, string errors) = await ProgramRun.RunAsync(Command(Runs, "a"));
            Assert.True(code == 0 && errors == "", Output + errors);
        }

        public ValueTask DisposeAsync()
        {
            Directory.Delete(Runs, recursive: true);
            return ValueTask.CompletedTask;
        }

        /// <summary>Another runs folder with the same run in it.</summary>
        public string Copy(string to)
        {
            foreach (string file in Directory.GetFiles(Folder, "*", SearchOption.AllDirectories))
            {
                string copy = Path.Combine(to, Path.GetRelativePath(Runs, file));
                Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
                File.Copy(file, copy);
            }
            return Path.Combine(to, "a");
        }
    }

    /// <summary>The quickstart, small: 4 prompts of 4 samples a step, two updates on them, a frozen reference.</summary>
    private static string[] Command(string runs, string name, params string[] more) =>
        [
            "train",
            "recipes/quickstart.yaml",
            "--runs",
            runs,
            .. Set(
                "name=" + name,
                "data.train.count=100",
                "data.evaluation.count=8",
                "rollout.prompts_per_step=4",
                "rollout.samples_per_prompt=4",
                "algorithm.mini_batches=2",
                "algorithm.kl_coefficient=0.01",
                "optimizer.warmup_steps=0",
                "training.steps=10",
                "training.checkpoint_every=3",
                "training.evaluate_every=4",
                "workers.count=1",
                "workers.kv_cache_mib=8"
            ),
            .. more,
        ];

    private string[] Train(string name, params string[] more) => Command(runs, name, more);

    /// <summary>The same program path with others' workers: nothing of what is computed depends on whose they are, or on their number.</summary>
    [Fact]
    public async Task Run_on_the_workers_of_a_head_computes_what_one_with_its_own_computes()
    {
        using var head = ProgramRun.Start(
            "head",
            "--port",
            $"{SiloSetup.FreePort(System.Net.IPAddress.Loopback, following: 1)}"
        );
        await head.SaysAsync("head ready");
        string join = head.Output.Split("--join ")[1].Split(' ')[0];
        using var one = ProgramRun.Start("worker", "--join", join, "--name", "one", "--threads", "1");
        using var two = ProgramRun.Start("worker", "--join", join, "--name", "two", "--threads", "1");
        var (code, output, errors) = await ProgramRun.RunAsync(Train("a", "--join", join));
        Assert.True(code == 0 && errors == "", output + errors);
        SameAsUninterrupted(In("a"));

        (code, output, errors) = await ProgramRun.RunAsync("status", "--join", join, "--json");
        Assert.True(code == 0, errors);
        using (var status = System.Text.Json.JsonDocument.Parse(output))
            Assert.Equal(
                ["one", "two"],
                status
                    .RootElement.GetProperty("workers")
                    .EnumerateArray()
                    .Select(w => w.GetProperty("name").GetString())
            );
        (code, output, errors) = await ProgramRun.RunAsync("drain", "two", "--join", join);
        Assert.True(code == 0, errors);
        Assert.Equal(0, await two.EndAsync());
        Assert.Contains("two has finished and left", two.Output);
        one.Signal(ProgramRun.Terminate);
        Assert.Equal(0, await one.EndAsync());
        head.Signal(ProgramRun.Terminate);
        Assert.Equal(0, await head.EndAsync());
        (code, _, errors) = await ProgramRun.RunAsync("status", "--join", join);
        Assert.Equal(1, code);
        Assert.Contains($"No head answers at {join}", errors);
    }

    private static string[] Set(params string[] values) => [.. values.SelectMany(v => new[] { "--set", v })];

    private string In(string name, params string[] path) => Path.Combine([runs, name, .. path]);

    /// <summary>Rows without what a clock measured.</summary>
    private static string[] Rows(string path) =>
        [
            .. JsonLines
                .Read(path)
                .Select(row =>
                {
                    foreach (
                        string measured in row.Select(p => p.Key)
                            .Where(k =>
                                k.EndsWith("_seconds", StringComparison.Ordinal)
                                || k.EndsWith("_per_second", StringComparison.Ordinal)
                            )
                            .ToArray()
                    )
                        row.Remove(measured);
                    return row.ToJsonString();
                }),
        ];

    /// <summary>Figures, samples, weights, moments and position, bit for bit.</summary>
    private void SameAsUninterrupted(string run)
    {
        foreach (string file in new[] { "metrics.jsonl", "samples.jsonl" })
            Assert.Equal(Rows(Path.Combine(whole.Folder, file)), Rows(Path.Combine(run, file)));
        foreach (string file in new[] { "model.safetensors", "optimizer.safetensors", "state.json" })
            Assert.Equal(
                File.ReadAllBytes(Path.Combine(whole.Folder, "checkpoints", "step-000010", file)),
                File.ReadAllBytes(Path.Combine(run, "checkpoints", "step-000010", file))
            );
    }

    [Fact]
    public void Run_writes_what_it_promises()
    {
        foreach (
            string file in new[]
            {
                "recipe.yaml",
                "metrics.jsonl",
                "samples.jsonl",
                "plot.png",
                "evaluations/step-000000.jsonl",
                "evaluations/step-000010.jsonl",
                "logs/worker-1.log",
            }
        )
        {
            Assert.True(File.Exists(Path.Combine(whole.Folder, file)), file);
            Assert.Contains(Path.Combine(whole.Folder, file.Split('/')[0]), whole.Output);
        }
        Assert.Equal(
            [0x89, (byte)'P', (byte)'N', (byte)'G'],
            File.ReadAllBytes(Path.Combine(whole.Folder, "plot.png"))[..4]
        );
        Assert.True(new FileInfo(Assert.Single(Directory.GetFiles(Path.Combine(whole.Folder, "events")))).Length > 500);
        string[] checkpoints =
        [
            .. Directory.GetDirectories(Path.Combine(whole.Folder, "checkpoints")).Order(StringComparer.Ordinal),
        ];
        Assert.Equal(["step-000009", "step-000010"], checkpoints.Select(Path.GetFileName)); // keep_checkpoints is 2
        foreach (string checkpoint in checkpoints)
            AtomicFolder.Verify(checkpoint);
        var rows = JsonLines.Read(Path.Combine(whole.Folder, "metrics.jsonl")).ToArray();
        Assert.Equal([0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10, 10], rows.Select(r => (int)r["step"]!)); // evaluated after 0, 4, 8 and 10
        foreach (
            string figure in new[]
            {
                "reward",
                "accuracy",
                "completion_length",
                "loss",
                "entropy",
                "clip_fraction",
                "gradient_norm",
                "sync_seconds",
            }
        )
            Assert.NotNull(rows[1][figure]);
        Assert.Equal(40, Rows(Path.Combine(whole.Folder, "samples.jsonl")).Length);
        Assert.Contains("peak memory: trainer", whole.Output);
        Assert.Contains("accuracy before", whole.Output);
        Assert.Equal("a", RecipeFile.Load<TrainRecipe>(Path.Combine(whole.Folder, "recipe.yaml")).Name);
        Assert.False(File.Exists(whole.Folder + ".lock"));
    }

    [Fact]
    public async Task Run_that_was_interrupted_twice_and_resumed_is_bit_for_bit_the_run_that_was_not()
    {
        using (var first = ProgramRun.Start(Train("a")))
        {
            await first.SaysAsync("step 1/10");
            first.Signal(ProgramRun.Interrupt);
            Assert.Equal(0, await first.EndAsync());
            Assert.Contains("finishing this step, then saving", first.Output);
            Assert.Contains("go on with: simple-r1 train recipes/quickstart.yaml", first.Output);
            await first.WorkersEndAsync();
        }
        Assert.False(Directory.Exists(In("a", "checkpoints", "step-000010")));
        using (var second = ProgramRun.Start(Train("a", "--resume")))
        {
            await second.SaysAsync("/10  reward"); // its first step
            second.Signal(ProgramRun.Terminate);
            Assert.Equal(0, await second.EndAsync());
            Assert.Contains("resumed after step ", second.Output);
        }
        var (code, output, errors) = await ProgramRun.RunAsync(Train("a", "--resume"));
        Assert.True(code == 0, output + errors);
        Assert.Contains("accuracy before", output); // the evaluation before step 1 was kept
        SameAsUninterrupted(In("a"));
    }

    /// <summary>Groups that are not complete when a step has enough go on in the next one, whole groups are trained on, and a resumed run takes up those that were under way.</summary>
    [Fact]
    public async Task Partial_rollouts_are_carried_to_the_next_step_and_over_an_interruption()
    {
        string[] carry =
        [
            .. Set(
                "rollout.carry=3",
                "training.samples_logged=1000",
                "algorithm.importance_cap=2",
                "rollout.max_new_tokens=60",
                "rollout.temperature=1.5",
                "training.checkpoint_every=1"
            ),
        ];
        using (var first = ProgramRun.Start(Train("a", carry)))
        {
            await first.SaysAsync("step 3/10");
            first.Signal(ProgramRun.Interrupt);
            Assert.Equal(0, await first.EndAsync());
        }
        string last = Directory.GetDirectories(In("a", "checkpoints")).Order(StringComparer.Ordinal).Last();
        Assert.Contains("\"Carried\":[", File.ReadAllText(Path.Combine(last, "state.json")));
        var (code, output, errors) = await ProgramRun.RunAsync(Train("a", ["--resume", .. carry]));
        Assert.True(code == 0, output + errors);

        var metrics = JsonLines.Read(In("a", "metrics.jsonl")).Where(r => r["loss"] is not null).ToArray();
        Assert.Equal(Enumerable.Range(1, 10), metrics.Select(r => (int)r["step"]!));
        Assert.Contains(metrics, r => (double)r["tokens_of_older_weights"]! > 0);
        var samples = JsonLines.Read(In("a", "samples.jsonl")).ToArray();
        foreach (var step in samples.GroupBy(s => (int)s["step"]!))
        {
            Assert.True(step.Count() >= 16, $"step {step.Key} has {step.Count()} samples"); // 4 groups, or more that were complete at the same moment
            Assert.All(step.GroupBy(s => (string)s["question"]!), group => Assert.Equal(0, group.Count() % 4));
        }
    }

    [Fact]
    public async Task Finished_run_is_refused_or_shown_again_and_resumes_only_with_its_own_seed_and_model()
    {
        whole.Copy(runs);
        var (code, _, errors) = await ProgramRun.RunAsync(Train("a"));
        Assert.Equal(1, code);
        Assert.Contains("a run of this name exists. Continue it with --resume, replace it with --overwrite", errors);
        (code, _, errors) = await ProgramRun.RunAsync(Train("a", "--resume", "--set", "seed=9"));
        Assert.Equal(1, code);
        Assert.Contains("is of a run with seed 1, the recipe says seed 9", errors);

        string other = Directory.CreateDirectory(Path.Combine(runs, "other-model")).FullName;
        foreach (string file in Directory.GetFiles(Path.Combine(SharedData.RepositoryRoot, "recipes", "tiny-base")))
            File.Copy(file, Path.Combine(other, Path.GetFileName(file)));
        byte[] weights = File.ReadAllBytes(Path.Combine(other, "model.safetensors"));
        weights[^1000] ^= 1;
        File.WriteAllBytes(Path.Combine(other, "model.safetensors"), weights);
        (code, _, errors) = await ProgramRun.RunAsync(Train("a", "--resume", "--set", "model.path=" + other));
        Assert.Equal(1, code);
        Assert.Contains("began with other weights than those of the recipe's model.path", errors);

        (code, var output, errors) = await ProgramRun.RunAsync(Train("a", "--resume"));
        Assert.True(code == 0, output + errors);
        Assert.Contains("all 10 steps are done; to train on, resume with --set training.steps=N", output);
        SameAsUninterrupted(In("a")); // nothing was done twice
    }

    [Fact]
    public async Task Damaged_checkpoint_is_named_and_the_one_before_takes_its_place()
    {
        whole.Copy(runs);
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
        SameAsUninterrupted(In("a"));
    }

    [Fact]
    public async Task Second_interrupt_ends_at_once_and_killed_trainer_leaves_no_worker()
    {
        using var run = ProgramRun.Start(Train("a", Set("training.steps=1000", "data.evaluation.count=4000")));
        await Condition(
            () => run.Workers().Length == 1 && File.Exists(In("a", "metrics.jsonl")),
            "the start of the workers",
            run
        );
        Assert.Equal(1, (await ProgramRun.RunAsync(Train("a", "--overwrite"))).Code); // another process is at it
        run.Signal(ProgramRun.Interrupt); // as it answers 4000 problems or before
        await run.SaysAsync("again: stop at once");
        run.Signal(ProgramRun.Interrupt);
        Assert.Contains(await run.EndAsync(), new[] { 130, 0 }); // 0 where it was done before the second
        await run.WorkersEndAsync();

        using var killed = ProgramRun.Start(Train("b", Set("training.steps=1000")));
        await killed.SaysAsync("step 1/1000");
        killed.Signal(ProgramRun.Kill);
        Assert.Equal(128 + ProgramRun.Kill, await killed.EndAsync());
        await killed.WorkersEndAsync();
    }

    [Fact]
    public async Task Interrupt_during_an_evaluation_saves_and_the_run_can_go_on()
    {
        using var run = ProgramRun.Start(
            Train("a", Set("training.steps=1", "data.evaluation.count=4000", "training.evaluate_every=0"))
        );
        await Condition(() => File.Exists(In("a", "recipe.yaml")), "the start of the run", run);
        run.Signal(ProgramRun.Interrupt);
        Assert.Equal(0, await run.EndAsync());
        Assert.Contains("stopped after step 0 and saved", run.Output);
        var (code, output, errors) = await ProgramRun.RunAsync(
            Train("a", [.. Set("training.steps=1", "training.evaluate_every=0"), "--resume"])
        );
        Assert.True(code == 0, output + errors);
        Assert.Contains("evaluation after step 0", output);
        Assert.Contains("evaluation after step 1", output);
    }

    [Fact]
    public async Task Killed_worker_costs_time_and_changes_nothing()
    {
        using var run = ProgramRun.Start(Train("a", Set("workers.count=2")));
        await run.SaysAsync("step 2/10");
        ProgramRun.SendSignal(run.Workers()[0], ProgramRun.Kill);
        Assert.Equal(0, await run.EndAsync());
        Assert.Contains("was lost and is replaced", run.Output);
        Assert.Contains("SIGKILL", run.Output);
        SameAsUninterrupted(In("a")); // which had one worker only
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
                Set(
                    $"rewards=[{{name: Fragile, file: {file}}}]",
                    "training.evaluate_every=0",
                    "data.evaluation.count=1"
                )
            )
        );
        Assert.Equal(1, code);
        Assert.Contains($"the reward 'Fragile' threw FormatException: 41 is too many ({file}:5)", errors);
        Assert.Matches(@"problem: \S+\n +gold answer: \d+\n +completion: ", errors);
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
                        .. Set("training.steps=2", "training.evaluate_every=0", "training.checkpoint_every=1"),
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
