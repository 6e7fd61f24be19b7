using System.Globalization;
using SimpleR1.Training.Rollouts;

namespace SimpleR1.Training.Runs.Evaluations;

/// <summary>The accuracy of two evaluations of the same problems, paired by problem.</summary>
public sealed class EvaluationComparison
{
    private const int LongestShown = 160; // characters of a question, and of an answer's end

    /// <exception cref="InvalidDataException">The two were not made alike; the message has all that differs.</exception>
    public EvaluationComparison(ComparedEvaluation before, ComparedEvaluation after)
    {
        before.Check(after.Fingerprint);
        Before = before;
        After = after;
        ComparedProblem[] all = [.. before.Problems.Zip(after.Problems, (a, b) => new ComparedProblem(a, b))];
        All = new("all", all, before.Samples);
        var sets = all.GroupBy(p => p.Source).ToArray();
        if (sets.Length > 1)
            Sets = [.. sets.Select(s => new ComparedSet(s.Key, [.. s], before.Samples))];
    }

    public ComparedEvaluation Before { get; }
    public ComparedEvaluation After { get; }
    public ComparedSet All { get; }

    /// <summary>The problems of each source, where they are of several.</summary>
    public IReadOnlyList<ComparedSet> Sets { get; } = [];

    /// <summary>The comparison in words, a line at a time.</summary>
    /// <param name="shown">Problems to show of those that one of the two solves more often.</param>
    public IEnumerable<string> Lines(int shown = 0)
    {
        string answers = Before.Samples == 1 ? "" : $" with {Before.Samples} answers each";
        yield return $"{All.Problems.Count} problems{answers}, compared one by one:";
        yield return $"A  {Describe(Before, All.Accuracy(after: false))}";
        yield return $"B  {Describe(After, All.Accuracy(after: true))}";
        foreach (var set in Sets.Prepend(All))
        {
            yield return (Sets.Count > 0 ? set.Name + ": " : "") + $"B − A: {Describe(set.Difference)}";
            yield return "  " + set.Counts;
        }
        foreach (var problem in All.Problems.Where(p => p.HasChanged).Take(shown))
        foreach (string line in Lines(problem))
            yield return line;
    }

    private static string Describe(ComparedEvaluation evaluation, Interval accuracy) =>
        $"{accuracy.Percent} after step {evaluation.Step}: {evaluation.Name}";

    private static string Describe(Interval difference)
    {
        bool isClear = difference.Low > 0 || difference.High < 0;
        return $"{difference.Points}, "
            + (isClear ? "a difference that chance alone hardly makes" : "chance may be all of it");
    }

    private static IEnumerable<string> Lines(ComparedProblem problem)
    {
        // One answer of each side, which differ in being right
        bool gained = problem.After > problem.Before;
        string source = problem.Source.Length > 0 ? $" of {problem.Source}" : "";
        yield return "";
        yield return $"problem {problem.Number}{source}: {Beginning(problem.Question)}   gold {problem.Gold}";
        yield return Shown("A", problem.BeforeAnswers, isCorrect: !gained);
        yield return Shown("B", problem.AfterAnswers, isCorrect: gained);
    }

    private static string Shown(string side, IReadOnlyList<Rollout> answers, bool isCorrect)
    {
        var answer = answers.First(a => a.Correct == isCorrect);
        string share = answers.Count > 1 ? $" ({answers.Count(a => a.Correct)} of {answers.Count})" : "";
        return $"  {side} {(isCorrect ? "right" : "wrong")}{share}: {End(answer.Text)}";
    }

    private static string Beginning(string text) =>
        OneLine(text) is { Length: > LongestShown } line ? line[..LongestShown] + "…" : OneLine(text);

    /// <summary>The end of a completion, where its answer is.</summary>
    private static string End(string text) =>
        OneLine(text) is { Length: > LongestShown } line ? "…" + line[^LongestShown..] : OneLine(text);

    private static string OneLine(string text) => text.Replace("\n", "⏎", StringComparison.Ordinal).Trim();
}

/// <summary>The answers of both evaluations to one problem.</summary>
public sealed record ComparedProblem(IReadOnlyList<Rollout> BeforeAnswers, IReadOnlyList<Rollout> AfterAnswers)
{
    /// <summary>Its place among all problems, from 1.</summary>
    public int Number => BeforeAnswers[0].Group + 1;
    public string Source => BeforeAnswers[0].Source;
    public string Question => BeforeAnswers[0].Question;
    public string Gold => BeforeAnswers[0].Gold;

    /// <summary>Share of answers that are correct.</summary>
    public double Before => Share(BeforeAnswers);
    public double After => Share(AfterAnswers);
    public bool HasChanged => Before != After;

    private static double Share(IReadOnlyList<Rollout> answers) =>
        answers.Count(a => a.Correct) / (double)answers.Count;
}

/// <summary>Problems that both evaluations answer.</summary>
/// <param name="Samples">Answers of each evaluation to a problem.</param>
public sealed record ComparedSet(string Name, IReadOnlyList<ComparedProblem> Problems, int Samples)
{
    private ProblemShares Before => new([.. Problems.Select(p => p.Before)], Samples);
    private ProblemShares After => new([.. Problems.Select(p => p.After)], Samples);

    /// <summary>Accuracy of the second less that of the first, with its 95% interval.</summary>
    public Interval Difference => Statistics.PairedDifference(Before, After);

    /// <summary>Problems that the first evaluation answers correctly more often.</summary>
    public int Lost => Problems.Count(p => p.After < p.Before);

    /// <summary>Problems that the second evaluation answers correctly more often.</summary>
    public int Gained => Problems.Count(p => p.After > p.Before);

    /// <summary>Accuracy of one of the two.</summary>
    public Interval Accuracy(bool after) => Statistics.OverProblems((after ? After : Before).Shares, Samples);

    /// <summary>How many problems each solves that the other does not.</summary>
    public string Counts
    {
        get
        {
            int same = Problems.Count - Lost - Gained;
            if (Samples > 1)
                return Invariant($"B more often right {Gained}, A more often right {Lost}, the same {same}");
            int both = Problems.Count(p => p.Before > 0 && p.After > 0);
            return Invariant($"only B right {Gained}, only A right {Lost}, both {both}, neither {same - both}");
        }
    }

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
