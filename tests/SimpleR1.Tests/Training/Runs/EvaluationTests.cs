using SimpleR1.Inference;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Evaluations;
using SimpleR1.Training.Runs.Fingerprints;
using Xunit;

namespace SimpleR1.Tests.Training.Runs;

public sealed class EvaluationTests : IDisposable
{
    private static readonly Fingerprint Made = new(
        new Dictionary<string, string> { ["samples"] = "4", ["seed"] = "1" }
    );

    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-evaluations-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    /// <summary>One problem's samples: its gold answer is 42, and a text in answer tags is right when it equals it.</summary>
    private static IEnumerable<Rollout> Problem(int problem, params string[] texts) =>
        texts.Select(
            (text, sample) =>
                new Rollout
                {
                    Group = problem,
                    Sample = sample,
                    Question = $"question {problem}",
                    Gold = "42",
                    Text = text,
                    Reward = 1.5,
                    Rewards = new Dictionary<string, double> { ["accuracy"] = 1 },
                    Correct = text.Contains("42", StringComparison.Ordinal),
                    FinishReason = FinishReason.Stop,
                    Segments = Rollout.SingleTurn(
                        [1, 2],
                        new()
                        {
                            RequestId = "",
                            SampleIndex = sample,
                            Tokens = [3, 4, 5],
                            Text = text,
                            LogProbs = [-1, -0.1f, -3e-7f],
                            WeightVersions = [7, 7, 7],
                            FinishReason = FinishReason.Stop,
                        }
                    ),
                }
        );

    private static string Answer(string text) => $"<think>so</think><answer>{text}</answer>";

    private static Evaluation Evaluation(IEnumerable<Rollout> answers, EvaluationSection? options = null, int step = 3)
    {
        Rollout[] all = [.. answers];
        return new()
        {
            Step = step,
            Answers = all,
            Scores = EvaluationScores.Of(all, options ?? new(), AnswerVote.ByMathematics(acceptLastNumber: false)),
            Fingerprint = Made,
            Seconds = 2,
        };
    }

    /// <summary>
    /// Problem 0: votes 42, 42.0, 41, none: 42 wins (its two texts are the same number). Problem 1: 7 and 42 have two
    /// votes each, 7 came first. Problem 2: nobody answers.
    /// </summary>
    private static Rollout[] ThreeProblems =>
        [
            .. Problem(0, Answer("42"), Answer("41"), Answer("42.0"), "no answer"),
            .. Problem(1, Answer("7"), Answer("42"), Answer("42"), Answer("7")),
            .. Problem(2, "x", "y", "z", "w"),
        ];

    [Fact]
    public void Scores_are_those_counted_by_hand()
    {
        var options = new EvaluationSection
        {
            Samples = 4,
            PassAt = [1, 2, 4],
            MajorityAt = [1, 2, 4],
        };
        var scores = Evaluation(ThreeProblems, options).Scores;

        Assert.Equal(3, scores.Problems);
        Assert.Equal([0.5, 0.5, 0], scores.ByProblem.Shares);
        Assert.Equal(1 / 3.0, scores.Accuracy.Estimate, 1e-12);
        Assert.Equal([1 / 3.0, 5 / 9.0, 2 / 3.0], scores.PassAt.Select(s => Math.Round(s.Share.Estimate, 12)), Near);
        // majority@2: problem 0 votes (42 before 41: right), (42.0, none: right); problem 1 (7 first: wrong), (42 first: right)
        Assert.Equal([1 / 3.0, 0.5, 1 / 3.0], scores.MajorityAt.Select(s => s.Share.Estimate), Near);
        Assert.Equal(Statistics.OverProblems([1, 0, 0], 4), scores.MajorityAt[2].Share);
        Assert.Equal(new Interval(1.5, 1.5, 1.5), scores.Reward);

        static bool Near(double a, double b) => Math.Abs(a - b) < 1e-9;
    }

    [Fact]
    public void Metrics_have_every_score_with_its_interval()
    {
        var options = new EvaluationSection { Samples = 4 };
        var metrics = Evaluation(ThreeProblems, options).Metrics().ToDictionary();
        string[] scores = ["accuracy", "reward", "pass_at_4", "majority_at_4", "answered", "accuracy_answered"];
        Assert.Equal(
            [
                .. scores.SelectMany(s => new[] { $"evaluation_{s}", $"evaluation_{s}_low", $"evaluation_{s}_high" }),
                "evaluation_length",
                "evaluation_seconds",
            ],
            metrics.Keys
        );
        Assert.All(EvaluationScores.Names(options, null), name => Assert.Contains(name, metrics.Keys));
        Assert.Equal(3, metrics["evaluation_length"]);
        Assert.DoesNotContain("evaluation_pass_at_1", Evaluation(Problem(0, "x")).Metrics().ToDictionary().Keys);
    }

    [Fact]
    public void Votes_of_custom_judges_are_by_text()
    {
        var set = new RewardSet([new("mine", 1, RewardFunction.Plain(_ => 1)) { Judgement = Judgement.Answer }]);
        Assert.Equal(1, set.Vote.Winner(["a", "b ", "b"])!.Value);
        Assert.Equal(0, set.Vote.Winner([Answer("1/2"), Answer("0.5"), Answer("0.5 ")])!.Value - 1);
        var mathematics = RewardSet.Load([new() { Name = "format" }, new() { Name = "accuracy" }]);
        Assert.Equal(1, mathematics.Vote.Winner([Answer("3"), Answer("1/2"), Answer("0.5")])!.Value);
        Assert.Null(mathematics.Vote.Winner(["the last number is 5"]));
        var countdown = RewardSet.Load([new() { Name = "countdown" }]);
        Assert.Equal(1, countdown.Vote.Winner(["1 + 2 is it", Answer("1 + 2")])!.Value);
        Assert.Null(countdown.Vote.Read("1 + 2 is it"));
        var lenient = RewardSet.Load([new() { Name = "accuracy", AcceptLastNumber = true }]);
        Assert.Equal(0, lenient.Vote.Winner(["the last number is 5"])!.Value);
    }

    [Fact]
    public void Files_hold_the_evaluation_and_what_it_was_made_from()
    {
        var evaluation = Evaluation(ThreeProblems);
        var files = EvaluationFiles.In(Path.Combine(folder, "kept"));
        files.CheckFree(replace: false);
        Assert.Null(files.ReadFingerprint());
        files.Write(evaluation, "models/m");
        Assert.Equal(Made, files.ReadFingerprint());
        Assert.Equal(evaluation.Answers.Select(a => a.ToJson()), files.ReadAnswers().Select(a => a.ToJson()));
        string summary = File.ReadAllText(files.Summary);
        foreach (
            string part in new[] { "\"step\": 3", "\"model\": \"models/m\"", "\"correct\": 4", "\"samples\": \"4\"" }
        )
            Assert.Contains(part, summary);

        // An evaluation is not replaced unasked; what is none never is
        Assert.Contains("--overwrite", Assert.Throws<IOException>(() => files.CheckFree(replace: false)).Message);
        files.CheckFree(replace: true);
        File.WriteAllText(Path.Combine(folder, "thesis.txt"), "x");
        var other = EvaluationFiles.In(folder);
        Assert.Contains("no evaluation", Assert.Throws<IOException>(() => other.CheckFree(replace: true)).Message);

        // Without its summary an evaluation is not complete
        File.Delete(files.Summary);
        Assert.Null(files.ReadFingerprint());
    }

    [Fact]
    public void Comparison_is_paired_and_only_of_what_was_made_alike()
    {
        var run = RunFolder.Open(folder, "run");
        var files = EvaluationFiles.Of(run, 3);
        files.Write(Evaluation(ThreeProblems), "m");
        var kept = ComparedEvaluation.Read(files.Answers);
        var better = Evaluation([.. ThreeProblems.Select(a => a with { Correct = a.Group < 2 })], step: 9);
        kept.Check(Made);
        kept.Check(new(new Dictionary<string, string> { ["samples"] = "4", ["seed"] = "2" }));
        Assert.Equal(
            Statistics.PairedDifference(new([0.5, 0.5, 0], 4), new([1, 1, 0], 4)),
            new EvaluationComparison(kept, ComparedEvaluation.Of(better)).All.Difference
        );

        var other = new Fingerprint(new Dictionary<string, string> { ["samples"] = "8", ["seed"] = "1" });
        Assert.Contains("samples: 4 → 8", Assert.Throws<InvalidDataException>(() => kept.Check(other)).Message);
        File.AppendAllText(files.Answers, "{\"group\": 1");
        Assert.Contains(
            "step-000003.jsonl:13",
            Assert.Throws<InvalidDataException>(() => ComparedEvaluation.Read(files.Answers)).Message
        );
        Assert.Contains(
            "no evaluation at",
            Assert.Throws<FileNotFoundException>(() => ComparedEvaluation.Read(Path.Combine(folder, "x"))).Message
        );
    }

    [Fact]
    public void Evaluations_after_the_checkpoint_are_cut_and_others_are_named_by_what_differs()
    {
        var run = RunFolder.Open(folder, "run");
        foreach (int step in new[] { 0, 4, 8 })
            EvaluationFiles.Of(run, step).Write(Evaluation(ThreeProblems, step: step), "m");
        File.Delete(EvaluationFiles.Of(run, 4).Summary); // as an older program left it
        EvaluationFiles.Cut(run, 4);
        Assert.False(File.Exists(EvaluationFiles.Of(run, 8).Answers));
        Assert.False(File.Exists(EvaluationFiles.Of(run, 8).Summary));

        var lines = new List<string>();
        ResumedData.CheckEvaluations(run, Made, lines.Add);
        Assert.Contains("evaluations after step 4 can't be compared", Assert.Single(lines));
        lines.Clear();
        var now = new Fingerprint(new Dictionary<string, string> { ["samples"] = "16", ["seed"] = "1" });
        ResumedData.CheckEvaluations(run, now, lines.Add);
        Assert.Equal(2, lines.Count);
        Assert.Contains("evaluations after step 0 can't be compared with those to come: samples: 4 → 16", lines[0]);
    }
}
