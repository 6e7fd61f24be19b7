using SimpleR1.Training.Data;

namespace SimpleR1.Training.Runs.Evaluations;

/// <summary>How often problems were solved in an evaluation that was kept.</summary>
internal static class MeasuredDifficulty
{
    /// <summary>By the problem's index, the share of its answers that are correct; problems without answers are missing.</summary>
    /// <param name="path">The folder of <c>eval --output</c>, or a run's file of answers.</param>
    /// <exception cref="FileNotFoundException">There is no complete evaluation.</exception>
    /// <exception cref="InvalidDataException">It is damaged, or answers none of the problems.</exception>
    public static IReadOnlyDictionary<int, double> Read(string path, IReadOnlyList<Problem> problems)
    {
        var shares = EvaluationFiles
            .Find(path)
            .ReadAnswers()
            .GroupBy(a => (a.Question, a.Gold))
            .ToDictionary(g => g.Key, g => g.Average(a => a.Correct ? 1.0 : 0));
        var solved = new Dictionary<int, double>();
        for (int i = 0; i < problems.Count; i++)
            if (shares.TryGetValue((problems[i].Question, problems[i].Answer), out double share))
                solved[i] = share;
        return solved.Count > 0
            ? solved
            : throw new InvalidDataException(
                $"{path} answers none of the {problems.Count} training problems: it should be an evaluation of them "
                    + "(eval with data.evaluation set to the training file, and several evaluation.samples)"
            );
    }
}
