using SimpleR1.Inference;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs.Evaluations;
using SimpleR1.Training.Runs.Fingerprints;
using Xunit;

namespace SimpleR1.Tests.Training.Runs;

/// <summary>Evaluations of several sets, and of completions of which some have no answer.</summary>
public sealed class EvaluationSetTests : IDisposable
{
    private static readonly Fingerprint Made = new(new Dictionary<string, string> { ["samples"] = "2" });

    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-sets-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private string In(params string[] path) => Path.Combine([folder, .. path]);

    private static IEnumerable<Rollout> Problem(int problem, string set, params string[] texts) =>
        texts.Select(
            (text, sample) =>
                new Rollout
                {
                    Group = problem,
                    Sample = sample,
                    Question = $"question {problem}",
                    Gold = "42",
                    Source = set,
                    Text = text,
                    Reward = 1,
                    Rewards = new Dictionary<string, double> { ["accuracy"] = 1 },
                    Correct = text == Right,
                    FinishReason = FinishReason.Stop,
                    Segments =
                    [
                        Segment.Read([1]),
                        new([.. text.Select(c => (int)c)], new float[text.Length], new int[text.Length]),
                    ],
                }
        );

    private const string Right = "so <answer>42</answer>";
    private const string Wrong = "so <answer>41</answer>";
    private const string None = "who knows";

    private static Evaluation Evaluation(int step, params IEnumerable<Rollout>[] problems)
    {
        Rollout[] all = [.. problems.SelectMany(p => p)];
        var options = new EvaluationSection { Samples = all.Count(a => a.Group == 0) };
        var vote = AnswerVote.ByMathematics(acceptLastNumber: false);
        return new()
        {
            Step = step,
            Answers = all,
            Scores = EvaluationScores.Of(all, options, vote),
            Sets = EvaluationSet.Of(all, options, vote),
            Fingerprint = Made,
        };
    }

    /// <summary>Two problems of a (3 of 4 right), one of b (1 of 2 right, the other without an answer).</summary>
    private static Evaluation Two(int step = 1) =>
        Evaluation(step, Problem(0, "a", Right, Right), Problem(1, "a", Right, Wrong), Problem(2, "b", None, Right));

    [Fact]
    public void Every_set_has_the_figures_that_all_have()
    {
        var evaluation = Two();
        Assert.Equal(["a", "b"], evaluation.Sets.Select(s => s.Name));
        var metrics = evaluation.Metrics().ToDictionary();
        Assert.Equal(4 / 6.0, metrics["evaluation_accuracy"], 1e-12);
        Assert.Equal(0.75, metrics["evaluation_accuracy/a"]);
        Assert.Equal(Statistics.OverProblems([1, 0.5], 2).Low, metrics["evaluation_accuracy/a_low"]);
        Assert.Equal(Statistics.OverProblems([0.5], 2).High, metrics["evaluation_accuracy/b_high"]);
        Assert.Equal(1, metrics["evaluation_pass_at_2/b"]);
        Assert.Equal((None.Length + Right.Length) / 2.0, metrics["evaluation_length/b"]);

        // The same names, and those by which a checkpoint can be kept are among them
        string[] all = [.. metrics.Keys.Where(k => !k.Contains('/') && k != "evaluation_seconds")];
        Assert.Equal(all.Length * 3 + 1, metrics.Count);
        var source = new DataSource { Sources = [new() { Path = "a.jsonl" }, new() { Generator = "b", Count = 1 }] };
        var names = EvaluationScores.Names(new() { Samples = 2, PassAt = [2] }, source).ToArray();
        Assert.Contains("evaluation_accuracy/b", names);
        Assert.All(names, name => Assert.Contains(name, metrics.Keys));
        Assert.Empty(Evaluation(1, Problem(0, "a", Right), Problem(1, "a", Wrong)).Sets);
    }

    /// <summary>What form gains and what reasoning gains are two figures.</summary>
    [Fact]
    public void Answers_found_and_correct_ones_among_them_are_counted_apart()
    {
        var scores = Two().Scores;
        Assert.Equal(5 / 6.0, scores.Answered.Estimate, 1e-12);
        Assert.Equal(Statistics.OverAnswers([new(2, 2), new(1, 2), new(1, 1)]), scores.AccuracyAnswered);
        Assert.Equal(0.8, scores.AccuracyAnswered!.Value.Estimate, 1e-12);

        var silent = Evaluation(1, Problem(0, "a", None, None));
        Assert.Equal(0, silent.Scores.Answered.Estimate);
        Assert.Null(silent.Scores.AccuracyAnswered);
        Assert.DoesNotContain("evaluation_accuracy_answered", silent.Metrics().ToDictionary().Keys);
    }

    [Fact]
    public void Answers_that_are_kept_know_their_set_and_old_ones_have_none()
    {
        var files = EvaluationFiles.In(In("kept"));
        files.Write(Two(), "m", "0123");
        Assert.Equal(["a", "a", "a", "a", "b", "b"], files.ReadAnswers().Select(a => a.Source));
        Assert.Contains("\"weights\": \"0123\"", File.ReadAllText(files.Summary));

        string old = File.ReadAllText(files.Answers).Replace(",\"source\":\"a\"", "").Replace(",\"source\":\"b\"", "");
        File.WriteAllText(files.Answers, old);
        Assert.All(files.ReadAnswers(), a => Assert.Equal("", a.Source));
    }

    [Fact]
    public void Comparison_counts_and_shows_problems_that_changed_in_each_set()
    {
        EvaluationFiles.In(In("one")).Write(Two(1), "m");
        var better = Evaluation(
            5,
            Problem(0, "a", Right, Wrong),
            Problem(1, "a", Right, Wrong),
            Problem(2, "b", Right, Right)
        );
        EvaluationFiles.In(In("two")).Write(better, "m");
        var comparison = new EvaluationComparison(
            ComparedEvaluation.Read(In("one")),
            ComparedEvaluation.Read(In("two"))
        );
        Assert.Equal((1, 1), (comparison.All.Gained, comparison.All.Lost));
        Assert.Equal(Statistics.PairedDifference(new([1, 0.5], 2), new([0.5, 0.5], 2)), comparison.Sets[0].Difference);
        string[] lines = [.. comparison.Lines(shown: 1)];
        Assert.Equal("3 problems with 2 answers each, compared one by one:", lines[0]);
        Assert.StartsWith("A  66.7% [", lines[1]);
        Assert.EndsWith($"after step 5: {In("two")}", lines[2]);
        Assert.StartsWith("all: B − A: 0.0 points [", lines[3]);
        Assert.StartsWith("b: B − A: +50.0 points [", lines[7]);
        Assert.Equal("  B more often right 1, A more often right 0, the same 0", lines[8]);
        Assert.Equal(
            [
                "",
                "problem 1 of a: question 0   gold 42",
                $"  A right (2 of 2): {Right}",
                $"  B wrong (1 of 2): {Wrong}",
            ],
            lines[9..]
        );
    }

    [Fact]
    public void Comparison_of_single_answers_says_who_is_right()
    {
        var before = Evaluation(
            1,
            Problem(0, "", Right),
            Problem(1, "", Wrong),
            Problem(2, "", None),
            Problem(3, "", Right)
        );
        var after = Evaluation(
            2,
            Problem(0, "", Right),
            Problem(1, "", Right),
            Problem(2, "", None),
            Problem(3, "", Wrong)
        );
        var comparison = new EvaluationComparison(ComparedEvaluation.Of(before), ComparedEvaluation.Of(after));
        Assert.Empty(comparison.Sets);
        Assert.Equal("only B right 1, only A right 1, both 1, neither 1", comparison.All.Counts);
    }

    [Fact]
    public void Folder_of_a_run_keeps_what_is_as_it_would_be_made_again()
    {
        var output = new EvaluationFolder(In("all"), replace: false);
        output.Prepare(Made);
        output.FilesOf(0).Write(Two(0), "m", "aa");
        output.FilesOf(5).Write(Two(5), "m", "bb");
        output.WriteOverview("Evaluations of x");
        Assert.NotNull(output.Find(5, "bb"));
        Assert.Null(output.Find(5, "cc"));
        Assert.Null(output.Find(6, "bb"));
        string[] table = [.. File.ReadLines(output.Table).Where(line => line.StartsWith('|'))];
        Assert.Equal(4, table.Length);
        Assert.Equal(
            [
                "step",
                "accuracy",
                "pass at 2",
                "majority at 2",
                "answered",
                "accuracy answered",
                "length",
                "accuracy/a",
                "accuracy/b",
            ],
            table[0].Trim('|').Split('|').Select(cell => cell.Trim())
        );
        Assert.StartsWith("|    5 |", table[3]);
        Assert.True(new FileInfo(output.Picture).Length > 5000);

        // The next call
        new EvaluationFolder(In("all"), replace: false).Prepare(Made);
        var other = new Fingerprint(new Dictionary<string, string> { ["samples"] = "4" });
        string message = Assert.Throws<IOException>(() => output.Prepare(other)).Message;
        Assert.Contains("samples: 2 → 4", message);
        Assert.Contains("--overwrite", message);
        new EvaluationFolder(In("all"), replace: true).Prepare(other);
        Assert.Empty(output.Read());

        File.WriteAllText(In("all", "thesis.txt"), "x");
        Assert.Contains(
            "thesis.txt",
            Assert.Throws<IOException>(() => new EvaluationFolder(In("all"), replace: true)).Message
        );
    }
}
