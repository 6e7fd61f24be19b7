using System.Globalization;
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

    public required int Problems { get; init; }

    /// <summary>Share of answers that are correct.</summary>
    public required Interval Accuracy { get; init; }

    /// <summary>Of each problem, the share of its answers that are correct.</summary>
    public required ProblemShares ByProblem { get; init; }

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
        return new()
        {
            Problems = problems.Length,
            Accuracy = Statistics.OverProblems(shares, samples),
            ByProblem = new(shares, samples),
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

    /// <summary>Every number by its name in metrics.jsonl.</summary>
    public IEnumerable<KeyValuePair<string, double>> Metrics() =>
        [
            .. Named("accuracy", Accuracy),
            .. Named("reward", Reward),
            .. PassAt.SelectMany(s => Named(At("pass", s.K), s.Share)),
            .. MajorityAt.SelectMany(s => Named(At("majority", s.K), s.Share)),
        ];

    /// <summary>The names by which evaluations with these options can be judged.</summary>
    internal static IEnumerable<string> Names(EvaluationSection options) =>
        [
            Prefix + "accuracy",
            Prefix + "reward",
            Evaluation.LengthMetric,
            .. options.PassAtOrDefault.Select(k => Prefix + At("pass", k)),
            .. options.MajorityAtOrDefault.Select(k => Prefix + At("majority", k)),
        ];

    private static string At(string kind, int k) => $"{kind}_at_{k.ToString(CultureInfo.InvariantCulture)}";

    private static IEnumerable<KeyValuePair<string, double>> Named(string name, Interval interval) =>
        [
            new(Prefix + name, interval.Estimate),
            new($"{Prefix}{name}_low", interval.Low),
            new($"{Prefix}{name}_high", interval.High),
        ];

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
