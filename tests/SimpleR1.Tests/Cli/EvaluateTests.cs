using SimpleR1.Training.Runs.Files;
using Xunit;

namespace SimpleR1.Tests.Cli;

/// <summary>eval, and what a resumed run makes of evaluations, by the real program.</summary>
[Collection<TrainRuns>]
public sealed class EvaluateTests(UninterruptedRun uninterrupted) : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-eval-test-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private string In(params string[] path) => Path.Combine([folder, .. path]);

    private static async Task<string> SucceedsAsync(params string[] command)
    {
        var (code, output, errors) = await ProgramRun.RunAsync(command);
        Assert.True(code == 0 && errors == "", output + errors);
        return output;
    }

    private static async Task<string> FailsAsync(params string[] command)
    {
        var (code, _, errors) = await ProgramRun.RunAsync(command);
        Assert.Equal(1, code);
        return errors;
    }

    private static string[] Eval(params string[] more) =>
        [
            "eval",
            "recipes/quickstart.yaml",
            .. TrainRun.Set(
                "data.evaluation.count=8",
                "evaluation.temperature=1",
                "workers.count=1",
                "workers.kv_cache_mib=8"
            ),
            .. more,
        ];

    [Fact]
    public async Task Eval_says_the_step_of_a_checkpoint_keeps_its_answers_and_compares_them()
    {
        string checkpoint = Path.Combine(uninterrupted.Folder, "checkpoints", "step-000010");
        string output = await SucceedsAsync(Eval("--model", checkpoint, "--output", In("after")));
        Assert.Matches(@"evaluation after step 10: \d of 8 correct, \d+\.\d% \[\d+\.\d, \d+\.\d\]", output);
        Assert.Contains(In("after", "answers.jsonl"), output);

        // The same as the run's own last evaluation, which it can be compared with
        string last = Path.Combine(uninterrupted.Folder, "evaluations", "step-000010.jsonl");
        Assert.Equal(File.ReadAllLines(last), File.ReadAllLines(In("after", "answers.jsonl")));
        output = await SucceedsAsync(Eval("--compare", In("after")));
        Assert.Contains("evaluation after step 0", output);
        Assert.Contains("--output FOLDER keeps them", output);
        Assert.Matches(@"A  \d+\.\d% \[\S+ \S+\] after step 10: \S+/after\n", output);
        Assert.Matches(@"B − A: \S+ points \[", output);

        // Two kept ones need no model
        output = await SucceedsAsync("compare", last, In("after"), "--show", "3");
        Assert.Matches(@"only B right 0, only A right 0, both \d, neither \d\n$", output);
    }

    [Fact]
    public async Task Eval_replaces_nothing_unasked_and_compares_only_what_was_made_alike()
    {
        string made = Path.Combine(uninterrupted.Folder, "evaluations", "step-000010.jsonl");
        Directory.CreateDirectory(In("kept"));
        File.Copy(made, In("kept", "answers.jsonl"));
        File.Copy(Path.ChangeExtension(made, ".json"), In("kept", "summary.json"));
        Assert.Contains("replace it with --overwrite", await FailsAsync(Eval("--output", In("kept"))));
        string[] longer = Eval("--compare", In("kept"), "--set", "evaluation.max_new_tokens=20");
        Assert.Contains("max_new_tokens: 48 → 20", await FailsAsync(longer));
        Assert.Contains("no evaluation at", await FailsAsync(Eval("--compare", In("nobody"))));
        Assert.Contains("no data.evaluation", await FailsAsync(Eval("--set", "data.evaluation=")));
    }

    /// <summary>
    /// The run went on to other questions and longer answers: its last evaluation is made again, that before training is
    /// not shown as if it were of the same problems.
    /// </summary>
    [Fact]
    public async Task Resumed_run_with_other_held_out_problems_answers_them_again()
    {
        uninterrupted.Copy(folder);
        string[] other = TrainRun.Set("data.evaluation.seed=5");
        string output = await SucceedsAsync(TrainRun.Command(folder, "a", ["--resume", .. other]));
        Assert.Contains("changed since the checkpoint: data.evaluation.seed: 2 → 5", output);
        Assert.Contains(
            "evaluations after step 0, 4, 8, 10 can't be compared with those to come: problems: 8, ",
            output
        );
        Assert.Contains("evaluation after step 10", output);
        Assert.DoesNotContain("accuracy before", output);
        var rows = JsonLines.Read(In("a", "metrics.jsonl")).Where(r => r["evaluation_accuracy"] is not null);
        Assert.Equal([0, 4, 8, 10], rows.Select(r => (int)r["step"]!));
        Assert.Equal(
            ["0001.yaml", "0002.yaml"],
            Directory.GetFiles(In("a", "recipes")).Select(Path.GetFileName).Order(StringComparer.Ordinal)
        );

        // Other training data need a word
        string[] resume = TrainRun.Command(folder, "a", ["--resume", .. TrainRun.Set("data.train.seed=5")]);
        Assert.Contains("problems changed", await FailsAsync(resume));
        output = await SucceedsAsync([.. resume, "--allow-changed-data"]);
        Assert.Contains("changed since the checkpoint: problems: ", output);
    }

    [Fact]
    public async Task Best_checkpoint_is_kept_named_and_known_after_a_resume()
    {
        string[] keep = TrainRun.Set(
            "checkpoint={keep_best: evaluation_length, best_is: lowest}",
            "training.evaluate_every=1",
            "training.keep_checkpoints=1",
            "training.steps=5"
        );
        string output = await SucceedsAsync(TrainRun.Command(folder, "a", keep));
        int best = Best();
        Assert.Contains($"the best by evaluation_length (", output);
        Assert.Contains($"is that of step {best}: {Checkpoint(best)}", output.Split("accuracy after")[1]);
        Assert.Equal(
            new[] { best, 5 }.Distinct().Select(s => $"step-{s:D6}"),
            Directory.GetDirectories(In("a", "checkpoints")).Select(Path.GetFileName).Order(StringComparer.Ordinal)
        );
        AtomicFolder.Verify(Checkpoint(best));

        await SucceedsAsync(TrainRun.Command(folder, "a", ["--resume", .. keep, .. TrainRun.Set("training.steps=7")]));
        Assert.True(Directory.Exists(Checkpoint(Best())));
        Assert.True(Directory.Exists(Checkpoint(7)));
        Assert.Equal(Lowest(), Best());
        Assert.InRange(Directory.GetDirectories(In("a", "checkpoints")).Length, 1, 2);

        string Checkpoint(int step) => In("a", "checkpoints", $"step-{step:D6}");
        int Lowest() =>
            (int)
                JsonLines
                    .Read(In("a", "metrics.jsonl"))
                    .Where(r => r["evaluation_length"] is not null && (int)r["step"]! > 0)
                    .MinBy(r => (double)r["evaluation_length"]!)!["step"]!;
        int Best() =>
            (int)System.Text.Json.Nodes.JsonNode.Parse(File.ReadAllText(In("a", "checkpoints", "best.json")))!["step"]!;
    }
}
