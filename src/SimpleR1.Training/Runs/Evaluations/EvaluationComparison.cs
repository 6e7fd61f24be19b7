using System.Globalization;
using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs.Fingerprints;

namespace SimpleR1.Training.Runs.Evaluations;

/// <summary>The accuracy of two evaluations of the same problems, paired by problem.</summary>
public sealed class EvaluationComparison
{
    private readonly string path;
    private readonly EvaluationSummary other;
    private readonly ProblemShares otherShares;

    /// <summary>Reads the evaluation to compare with.</summary>
    /// <param name="path">A folder of <c>eval --output</c>, or a run's file of answers.</param>
    /// <exception cref="FileNotFoundException">There is no complete evaluation.</exception>
    /// <exception cref="InvalidDataException">Its files are damaged.</exception>
    public EvaluationComparison(string path)
    {
        this.path = path;
        var files = EvaluationFiles.Find(path);
        other = files.ReadSummary();
        otherShares = Shares(files);
    }

    /// <summary>Checks that the two are evaluations of the same problems in the same way; seeds may differ.</summary>
    /// <exception cref="InvalidDataException">Something else differs; all of it is named.</exception>
    public void Check(Fingerprint fingerprint)
    {
        string[] differences = [.. other.Fingerprint.Differences(fingerprint).Where(n => n != InputFingerprint.Seed)];
        if (differences.Length > 0)
            throw new InvalidDataException(
                $"{path} can't be compared: it was not made as this evaluation is. "
                    + string.Join("; ", differences.Select(n => other.Fingerprint.Change(n, fingerprint)))
            );
    }

    /// <summary>This evaluation's accuracy less that of the other, with its 95% interval.</summary>
    public Interval Difference(Evaluation evaluation) =>
        Statistics.PairedDifference(otherShares, evaluation.Scores.ByProblem);

    /// <summary>The difference in words.</summary>
    public string Describe(Evaluation evaluation)
    {
        var difference = Difference(evaluation);
        double accuracy = 100 * otherShares.Shares.Average();
        string words =
            difference.Low > 0 || difference.High < 0
                ? "a difference that chance alone hardly makes"
                : "chance may be all of it";
        return string.Create(
            CultureInfo.InvariantCulture,
            $"compared with {path} (step {other.Step}, {accuracy:F1}%): {difference.Points}, 95% interval paired by problem: {words}"
        );
    }

    private static ProblemShares Shares(EvaluationFiles files)
    {
        Rollout[][] problems = [.. files.ReadAnswers().GroupBy(a => a.Group).Select(g => g.ToArray())];
        if (problems.Length == 0 || problems.Any(p => p.Length != problems[0].Length))
            throw new InvalidDataException($"{files.Answers}: expected as many answers to each problem");
        return new([.. problems.Select(p => p.Average(a => a.Correct ? 1.0 : 0))], problems[0].Length);
    }
}
