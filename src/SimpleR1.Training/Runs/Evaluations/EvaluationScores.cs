using System.Globalization;
using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Rollouts;

namespace SimpleR1.Training.Runs.Evaluations;

/// <summary>A share of solved problems when each has k samples.</summary>
public sealed record ScoreAt(int K, Interval Share);

/// <summary>How well held-out problems were answered, with 95% intervals over the problems.</summary>
public sealed record EvaluationScores
{
    private const string Prefix = "evaluation_";

    /// <summary>Ends of the names of an interval's ends.</summary>
    internal const string Low = "_low";
    internal const string High = "_high";

    /// <summary>Whether a metric's name is that of an interval's end.</summary>
    internal static bool IsEnd(string metric) =>
        metric.EndsWith(Low, StringComparison.Ordinal) || metric.EndsWith(High, StringComparison.Ordinal);

    public required int Problems { get; init; }

    /// <summary>Share of answers that are correct.</summary>
    public required Interval Accuracy { get; init; }

    /// <summary>Of each problem, the share of its answers that are correct.</summary>
    public required ProblemShares ByProblem { get; init; }

    /// <summary>
    /// Share of answers in which an answer was found, as the reward that judges reads them (<see cref="AnswerVote.Read"/>).
    /// </summary>
    public required Interval Answered { get; init; }

    /// <summary>Share of those that are correct; null where no answer was found in any.</summary>
    public required Interval? AccuracyAnswered { get; init; }

    /// <summary>Mean reward of the answers; its interval is a bootstrap's.</summary>
    public required Interval Reward { get; init; }

    /// <summary>pass@k: at least one of k answers is correct (<see cref="Statistics.PassAt"/>).</summary>
    public required IReadOnlyList<ScoreAt> PassAt { get; init; }

    /// <summary>
    /// majority@k: the answer that most of k samples give is correct (<see cref="AnswerVote.Winner"/>); the mean over
    /// disjoint runs of k samples.
    /// </summary>
    public required IReadOnlyList<ScoreAt> MajorityAt { get; init; }

    /// <summary>The scores of answers in the order of problems and samples; every problem has as many.</summary>
    public static EvaluationScores Of(IReadOnlyList<Rollout> answers, EvaluationSection options, AnswerVote vote)
    {
        Rollout[][] problems = [.. answers.GroupBy(a => a.Group).Select(g => g.ToArray())];
        int samples = problems[0].Length;
        double[] shares = [.. problems.Select(p => p.Count(a => a.Correct) / (double)samples)];
        AnswerCount[] counts = [.. problems.Select(p => Count(p, vote))];
        return new()
        {
            Problems = problems.Length,
            Accuracy = Statistics.OverProblems(shares, samples),
            ByProblem = new(shares, samples),
            Answered = Statistics.OverProblems([.. counts.Select(c => c.Answers / (double)samples)], samples),
            AccuracyAnswered = counts.Any(c => c.Answers > 0) ? Statistics.OverAnswers(counts) : null,
            Reward = Statistics.BootstrapMean([.. problems.Select(p => p.Average(a => a.Reward))]),
            PassAt = At(options.PassAtOrDefault, (p, k) => Statistics.PassAt(k, p.Length, p.Count(a => a.Correct))),
            MajorityAt = At(options.MajorityAtOrDefault, (p, k) => Majority(p, k, vote)),
        };

        ScoreAt[] At(IReadOnlyList<int> ks, Func<Rollout[], int, double> score) =>
            [
                .. ks.Select(k => new ScoreAt(
                    k,
                    Statistics.OverProblems([.. problems.Select(p => score(p, k))], samples)
                )),
            ];
    }

    /// <summary>A correct answer was found, whatever another reading of its text finds.</summary>
    private static AnswerCount Count(Rollout[] samples, AnswerVote vote) =>
        new(samples.Count(a => a.Correct), samples.Count(a => a.Correct || vote.Read(a.Text) is not null));

    /// <summary>Every number by its name in metrics.jsonl.</summary>
    /// <param name="set">The source that the problems are of; null where they are all.</param>
    public IEnumerable<KeyValuePair<string, double>> Metrics(string? set = null)
    {
        var named = new List<(string Name, Interval Interval)> { ("accuracy", Accuracy), ("reward", Reward) };
        named.AddRange(PassAt.Select(s => (At("pass", s.K), s.Share)));
        named.AddRange(MajorityAt.Select(s => (At("majority", s.K), s.Share)));
        named.Add(("answered", Answered));
        if (AccuracyAnswered is { } found)
            named.Add(("accuracy_answered", found));
        return named.SelectMany(n => Named(set is null ? Prefix + n.Name : InSet(Prefix + n.Name, set), n.Interval));
    }

    /// <summary>The name of a set's figure; TensorBoard shows those of all sets together.</summary>
    internal static string InSet(string metric, string set) => $"{metric}/{set}";

    /// <summary>The names by which evaluations of a source with these options can be judged.</summary>
    internal static IEnumerable<string> Names(EvaluationSection options, DataSource? source)
    {
        string[] all =
        [
            Prefix + "accuracy",
            Prefix + "reward",
            Evaluation.LengthMetric,
            Prefix + "answered",
            .. options.PassAtOrDefault.Select(k => Prefix + At("pass", k)),
            .. options.MajorityAtOrDefault.Select(k => Prefix + At("majority", k)),
        ];
        var sets = source is null ? [] : DataMix.Sets(source);
        return [.. all, .. sets.SelectMany(set => all.Select(metric => InSet(metric, set)))];
    }

    private static string At(string kind, int k) => $"{kind}_at_{k.ToString(CultureInfo.InvariantCulture)}";

    private static IEnumerable<KeyValuePair<string, double>> Named(string name, Interval interval) =>
        [new(name, interval.Estimate), new(name + Low, interval.Low), new(name + High, interval.High)];

    private static double Majority(Rollout[] samples, int k, AnswerVote vote)
    {
        double correct = 0;
        int runs = samples.Length / k;
        for (int run = 0; run < runs; run++)
        {
            var voters = samples[(run * k)..((run + 1) * k)];
            if (vote.Winner([.. voters.Select(v => v.Text)]) is { } winner && voters[winner].Correct)
                correct++;
        }
        return correct / runs;
    }
}
