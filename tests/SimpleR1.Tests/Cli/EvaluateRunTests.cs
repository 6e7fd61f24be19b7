using Xunit;

namespace SimpleR1.Tests.Cli;

/// <summary>eval --run: every checkpoint of a run, by the real program.</summary>
[Collection<TrainRuns>]
public sealed class EvaluateRunTests(UninterruptedRun uninterrupted) : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-eval-run-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private string In(params string[] path) => Path.Combine([folder, .. path]);

    private string[] Eval(params string[] more) =>
        [
            "eval",
            "recipes/quickstart.yaml",
            "--run",
            uninterrupted.Folder,
            .. TrainRun.Set("evaluation.temperature=1", "workers.count=1", "workers.kv_cache_mib=8"),
            .. more,
        ];

    private static string[] Few => TrainRun.Set("data.evaluation.count=8");

    /// <summary>Steps of the checkpoints that the run has kept.</summary>
    private int[] Checkpoints =>
        [
            .. Directory
                .GetDirectories(Path.Combine(uninterrupted.Folder, "checkpoints"))
                .Select(f => int.Parse(Path.GetFileName(f)["step-".Length..]))
                .Order(),
        ];

    [Fact]
    public async Task All_models_of_a_run_are_evaluated_once_and_as_the_run_did()
    {
        string[] command = Eval(["--output", In("all"), .. Few]);
        var (code, output, errors) = await ProgramRun.RunAsync(command);
        Assert.True(code == 0 && errors == "", output + errors);
        int[] steps = [0, .. Checkpoints];
        Assert.True(steps.Length >= 3);
        foreach (int step in steps)
        {
            Assert.Contains($"evaluation after step {step}: ", output);
            Assert.Matches($@"\n\| +{step} \| +\d+\.\d% \[", output);
        }
        foreach (int step in new[] { 0, 10 })
            Assert.Equal(
                File.ReadAllLines(Path.Combine(uninterrupted.Folder, "evaluations", $"step-{step:D6}.jsonl")),
                File.ReadAllLines(In("all", $"step-{step:D6}", "answers.jsonl"))
            );
        Assert.True(File.Exists(In("all", "accuracy.png")));
        string table = File.ReadAllText(In("all", "summary.md"));
        Assert.Contains("# Evaluations of a\n", table);

        // What is there is not made again; what is missing is
        Directory.Delete(In("all", "step-000010"), recursive: true);
        (code, output, errors) = await ProgramRun.RunAsync(command);
        Assert.True(code == 0 && errors == "", output + errors);
        Assert.Contains("step 0 is evaluated already", output);
        Assert.Contains("evaluation after step 10", output);
        Assert.DoesNotContain("evaluation after step 0", output);
        Assert.Equal(table, File.ReadAllText(In("all", "summary.md")));
    }

    [Fact]
    public async Task Stopped_evaluation_keeps_what_is_done_and_continues()
    {
        string[] command = Eval("--output", In("all"), "--set", "data.evaluation.count=400");
        using (var run = ProgramRun.Start(command))
        {
            await run.SaysAsync("evaluation after step 0: ");
            run.Signal(ProgramRun.Interrupt);
            Assert.Equal(130, await run.EndAsync());
            Assert.Contains("table and picture: ", run.Output);
        }
        int[] done =
        [
            .. Directory.GetDirectories(In("all")).Select(f => int.Parse(Path.GetFileName(f)["step-".Length..])),
        ];
        Assert.Contains(0, done);
        Assert.DoesNotContain(Checkpoints[^1], done);

        var (code, output, errors) = await ProgramRun.RunAsync(command);
        Assert.True(code == 0 && errors == "", output + errors);
        Assert.DoesNotContain("evaluation after step 0: ", output);
        Assert.Contains($"evaluation after step {Checkpoints[^1]}: ", output);
    }

    [Fact]
    public async Task Mistakes_are_named_before_anything_is_answered()
    {
        Assert.Contains(
            "no run of this name",
            await FailsAsync(["eval", "recipes/quickstart.yaml", "--run", In("none")])
        );
        Assert.Contains("simple-r1 compare A B", await FailsAsync(Eval("--compare", In("x"))));
        Assert.Contains("--overwrite is for --output", await FailsAsync(Eval("--overwrite")));
        File.WriteAllText(In("thesis.txt"), "x");
        Assert.Contains("no evaluations of a run", await FailsAsync(Eval("--output", folder)));

        // Another model than the one that the run began with
        TinyModels.WriteFolder(In("other"));
        Assert.Contains("began with other weights", await FailsAsync(Eval(["--model", In("other"), .. Few])));
    }

    private static async Task<string> FailsAsync(string[] command)
    {
        var (code, _, errors) = await ProgramRun.RunAsync(command);
        Assert.Equal(1, code);
        return errors;
    }
}
