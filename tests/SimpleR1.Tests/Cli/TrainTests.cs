using SimpleR1.Cluster.Membership;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs.Files;
using SimpleR1.Training.Runs.Fingerprints;
using Xunit;

namespace SimpleR1.Tests.Cli;

/// <summary>Whole runs by the real program: what they write, and how they continue after a pause.</summary>
[Collection<TrainRuns>]
public sealed class TrainTests(UninterruptedRun uninterrupted) : IDisposable
{
    private readonly string runs = Directory.CreateTempSubdirectory("simple-r1-cli-").FullName;

    public void Dispose() => Directory.Delete(runs, recursive: true);

    private string[] Train(string name, params string[] more) => TrainRun.Command(runs, name, more);

    private string In(string name, params string[] path) => Path.Combine([runs, name, .. path]);

    /// <summary>What a run computes depends neither on who starts its workers nor on their number.</summary>
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
        uninterrupted.AssertSame(In("a"));

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
            Assert.True(File.Exists(Path.Combine(uninterrupted.Folder, file)), file);
            Assert.Contains(Path.Combine(uninterrupted.Folder, file.Split('/')[0]), uninterrupted.Output);
        }
        Assert.Equal(
            [0x89, (byte)'P', (byte)'N', (byte)'G'],
            File.ReadAllBytes(Path.Combine(uninterrupted.Folder, "plot.png"))[..4]
        );
        Assert.Equal("a", RecipeFile.Load<TrainRecipe>(Path.Combine(uninterrupted.Folder, "recipe.yaml")).Name);
        Assert.Equal(40, TrainRun.Rows(Path.Combine(uninterrupted.Folder, "samples.jsonl")).Length);
        Assert.Contains("peak memory: trainer", uninterrupted.Output);
        Assert.Contains("accuracy before", uninterrupted.Output);
        Assert.False(File.Exists(uninterrupted.Folder + ".lock"));
    }

    [Fact]
    public void Run_writes_events_checkpoints_and_metrics()
    {
        string events = Assert.Single(Directory.GetFiles(Path.Combine(uninterrupted.Folder, "events")));
        Assert.True(new FileInfo(events).Length > 500);
        string[] checkpoints =
        [
            .. Directory
                .GetDirectories(Path.Combine(uninterrupted.Folder, "checkpoints"))
                .Order(StringComparer.Ordinal),
        ];
        Assert.Equal(["step-000009", "step-000010"], checkpoints.Select(Path.GetFileName)); // keep_checkpoints is 2
        foreach (string checkpoint in checkpoints)
            AtomicFolder.Verify(checkpoint);

        // Evaluated after steps 0, 4, 8 and 10.
        var rows = JsonLines.Read(Path.Combine(uninterrupted.Folder, "metrics.jsonl")).ToArray();
        Assert.Equal([0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10, 10], rows.Select(r => (int)r["step"]!));
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
        Assert.Equal((int)rows[1]["training_tokens_asked"]!, (int)rows[1]["training_tokens_computed"]!);
    }

    [Fact]
    public void Rows_have_the_time_that_the_run_has_worked_and_trained()
    {
        var rows = JsonLines.Read(Path.Combine(uninterrupted.Folder, "metrics.jsonl")).ToArray();
        double[] elapsed = [.. rows.Select(r => (double)r["elapsed_seconds"]!)];
        double[] trained = [.. rows.Select(r => (double)r["elapsed_step_seconds"]!)];
        Assert.Equal(elapsed.Order(), elapsed);
        Assert.Equal(trained.Order(), trained);
        Assert.Equal(0, trained[0]); // evaluated before the first step
        double steps = rows.Sum(r => (double?)r["step_seconds"] ?? 0);
        double evaluations = rows.Sum(r => (double?)r["evaluation_seconds"] ?? 0);
        Assert.InRange(trained[^1], steps, elapsed[^1] - evaluations);

        var step = rows[1];
        double parts = Seconds("generation") + Seconds("training") + Seconds("sync") + Seconds("other");
        Assert.Equal(Seconds("step"), parts, 1e-9);
        Assert.InRange(Seconds("reward"), 0, Seconds("generation"));

        double Seconds(string part) => (double)step[part + "_seconds"]!;
    }

    [Theory]
    [InlineData("training.shared_prompts=true", 4)]
    [InlineData("training.skip_zero_advantages=true", 2)] // two samples often earn the same
    public async Task Run_computes_no_more_than_it_must(string setting, int samples)
    {
        string[] settings = TrainRun.Set(
            "training.steps=1",
            "algorithm.kl_coefficient=0",
            "data.evaluation=null",
            "training.evaluate_every=0",
            $"rollout.samples_per_prompt={samples}",
            setting
        );
        var (code, output, errors) = await ProgramRun.RunAsync(Train("less", settings));
        Assert.True(code == 0, output + errors);
        var row = JsonLines.Read(In("less", "metrics.jsonl")).Single();
        Assert.InRange((int)row["training_tokens_computed"]!, 1, (int)row["training_tokens_asked"]! - 1);
    }

    [Fact]
    public async Task Run_that_was_interrupted_twice_and_resumed_is_bit_for_bit_the_run_that_was_not()
    {
        using (var first = ProgramRun.Start(Train("a")))
        {
            await first.SaysAsync("step 1/10");
            first.Signal(ProgramRun.Interrupt);
            Assert.Equal(130, await first.EndAsync());
            Assert.Contains("finishing this step, then saving", first.Output);
            Assert.Contains("continue with: simple-r1 train recipes/quickstart.yaml", first.Output);
            await first.WorkersEndAsync();
        }
        Assert.False(Directory.Exists(In("a", "checkpoints", "step-000010")));
        using (var second = ProgramRun.Start(Train("a", "--resume")))
        {
            await second.SaysAsync("/10  reward"); // its first step
            second.Signal(ProgramRun.Terminate);
            Assert.Equal(143, await second.EndAsync());
            Assert.Contains("resumed after step ", second.Output);
        }
        var (code, output, errors) = await ProgramRun.RunAsync(Train("a", "--resume"));
        Assert.True(code == 0, output + errors);
        Assert.Contains("accuracy before", output); // the evaluation before step 1 was kept
        double[] elapsed =
        [
            .. JsonLines.Read(In("a", "metrics.jsonl")).Select(r => (double)r["elapsed_step_seconds"]!),
        ];
        Assert.Equal(elapsed.Order(), elapsed);
        var sessions = RunOrigin.Read(In("a", "sessions.jsonl"));
        Assert.Equal(3, sessions.Count);
        Assert.All(sessions, s => Assert.StartsWith("simple-r1 train recipes/quickstart.yaml", s.Command));
        Assert.Equal(0, sessions[0].Step);
        Assert.InRange(sessions[2].Step, sessions[1].Step + 1, 9);
        uninterrupted.AssertSame(In("a"));
    }

    /// <summary>
    /// Groups that are incomplete when a step has enough continue in the next step, whole groups are trained on, and a
    /// resumed run takes up those that were in flight.
    /// </summary>
    [Fact]
    public async Task Partial_rollouts_are_carried_to_the_next_step_and_over_an_interruption()
    {
        string[] carry =
        [
            .. TrainRun.Set(
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
            first.Signal(ProgramRun.HangUp);
            Assert.Equal(129, await first.EndAsync());
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
            // 4 groups, or more if they were complete at the same moment.
            Assert.True(step.Count() >= 16, $"step {step.Key} has {step.Count()} samples");
            Assert.All(step.GroupBy(s => (string)s["question"]!), group => Assert.Equal(0, group.Count() % 4));
        }
    }

    [Fact]
    public async Task Finished_run_is_refused_or_shown_again_and_resumes_only_with_its_own_seed_and_model()
    {
        uninterrupted.Copy(runs);
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
        uninterrupted.AssertSame(In("a")); // nothing was done twice
    }
}
