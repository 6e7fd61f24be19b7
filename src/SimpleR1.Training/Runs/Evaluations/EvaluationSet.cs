using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Rollouts;

namespace SimpleR1.Training.Runs.Evaluations;

/// <summary>The answers to the problems of one source of several, scored by themselves.</summary>
/// <param name="Name">The source's name, as the recipe or its file calls it.</param>
/// <param name="Answers">In the order of the problems and samples.</param>
public sealed record EvaluationSet(string Name, IReadOnlyList<Rollout> Answers, EvaluationScores Scores)
{
    public int Correct => Answers.Count(a => a.Correct);
    public double MeanLength => Answers.Average(a => a.Tokens.Length);

    /// <summary>The sets of answers in the order of their first one; none where all are to problems of one source.</summary>
    public static IReadOnlyList<EvaluationSet> Of(
        IReadOnlyList<Rollout> answers,
        EvaluationSection options,
        AnswerVote vote
    )
    {
        Rollout[][] sets = [.. answers.GroupBy(a => a.Source).Select(g => g.ToArray())];
        return sets.Length < 2
            ? []
            : [.. sets.Select(s => new EvaluationSet(s[0].Source, s, EvaluationScores.Of(s, options, vote)))];
    }

    /// <summary>Every number by its name in metrics.jsonl: that of all answers, a slash and the set's name.</summary>
    public IEnumerable<KeyValuePair<string, double>> Metrics() =>
        [.. Scores.Metrics(Name), new(EvaluationScores.InSet(Evaluation.LengthMetric, Name), MeanLength)];
}
