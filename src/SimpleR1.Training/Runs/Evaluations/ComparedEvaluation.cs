using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs.Fingerprints;

namespace SimpleR1.Training.Runs.Evaluations;

/// <summary>One of two evaluations that are compared: its answers, and what they were made from.</summary>
/// <param name="Name">What a report calls it: a path, or "this".</param>
/// <param name="Step">Training steps that its weights have had.</param>
/// <param name="Problems">The answers to each problem, in the order of the problems.</param>
public sealed record ComparedEvaluation(
    string Name,
    int Step,
    IReadOnlyList<IReadOnlyList<Rollout>> Problems,
    Fingerprint Fingerprint
)
{
    /// <summary>Answers to each problem.</summary>
    public int Samples => Problems[0].Count;

    /// <summary>Reads an evaluation that was kept.</summary>
    /// <param name="path">A folder of <c>eval --output</c>, or a run's file of answers.</param>
    /// <exception cref="FileNotFoundException">There is no complete evaluation.</exception>
    /// <exception cref="InvalidDataException">Its files are damaged.</exception>
    public static ComparedEvaluation Read(string path)
    {
        var files = EvaluationFiles.Find(path);
        var summary = files.ReadSummary();
        var problems = ByProblem(files.ReadAnswers());
        if (problems.Count == 0 || problems.Any(p => p.Count != problems[0].Count))
            throw new InvalidDataException($"{files.Answers}: expected as many answers to each problem");
        return new(path, summary.Step, problems, summary.Fingerprint);
    }

    /// <summary>An evaluation that was just made.</summary>
    public static ComparedEvaluation Of(Evaluation evaluation) =>
        new("this evaluation", evaluation.Step, ByProblem(evaluation.Answers), evaluation.Fingerprint);

    /// <summary>Checks that another one answers the same problems in the same way; seeds may differ.</summary>
    /// <exception cref="InvalidDataException">Something else differs; all of it is named.</exception>
    public void Check(Fingerprint other)
    {
        string[] differences = [.. Fingerprint.Differences(other).Where(n => n != InputFingerprint.Seed)];
        if (differences.Length > 0)
            throw new InvalidDataException(
                $"{Name} can't be compared: the other evaluation is not made as it was. "
                    + string.Join("; ", differences.Select(n => Fingerprint.Change(n, other)))
            );
    }

    private static List<IReadOnlyList<Rollout>> ByProblem(IReadOnlyList<Rollout> answers) =>
        [.. answers.GroupBy(a => a.Group).Select(g => g.ToArray())];
}
