using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Evaluations;
using SimpleR1.Training.Runs.Reports;
using SimpleR1.Training.Supervised;
using static System.FormattableString;

namespace SimpleR1.Screen;

/// <summary>
/// A run on the console: a line a step, which stays, and on a terminal what is being done now below them.
/// </summary>
internal sealed class ConsoleReport
{
    /// <summary>The columns of a step of reinforcement learning.</summary>
    private static readonly TextTable Steps = new([
        new("step", 9, Rank: 0),
        new("reward", 6, Rank: 0),
        new("accuracy", 8, Rank: 2),
        new("length", 7, Rank: 3),
        new("entropy", 7, Rank: 7),
        new("gen tok/s", 9, Rank: 5),
        new("train tok/s", 11, Rank: 6),
        new("sync", 8, Rank: 8),
        new("step time", 9, Rank: 4),
        new("left", 9, Rank: 1),
    ]);

    /// <summary>The columns of a step on text.</summary>
    private static readonly TextTable TextSteps = new([
        new("step", 11, Rank: 0),
        new("loss", 8, Rank: 0),
        new("held-out loss", 13, Rank: 2),
        new("gradient norm", 13, Rank: 5),
        new("learning rate", 13, Rank: 4),
        new("tok/s", 9, Rank: 3),
        new("left", 9, Rank: 1),
    ]);

    private readonly Terminal terminal = new();
    private int rowsBelowHeader = int.MaxValue;
    private int headerWidth;

    /// <summary>Reports a step.</summary>
    public void Step(StepReport r) =>
        Row(
            Steps,
            [
                Invariant($"{r.Step}/{r.Steps}"),
                Invariant($"{r.Reward:F3}"),
                Invariant($"{100 * r.Accuracy:F1}%"),
                Invariant($"{r.Length:F1}"),
                Invariant($"{r.Entropy:F3}"),
                Invariant($"{r.GenerationTokensPerSecond:N0}"),
                Invariant($"{r.TrainingTokensPerSecond:N0}"),
                Invariant($"{r.SyncSeconds * 1000:F0} ms"),
                Invariant($"{r.StepSeconds:F2} s"),
                Durations.Text(r.EtaSeconds),
            ]
        );

    /// <summary>Reports a step on text.</summary>
    public void Step(SftStep s) =>
        Row(
            TextSteps,
            [
                Invariant($"{s.Step}/{s.Steps}"),
                Invariant($"{s.Loss:F4}"),
                s.HeldOutLoss is { } loss ? Invariant($"{loss:F4}") : "-",
                Invariant($"{s.GradientNorm:F2}"),
                Invariant($"{s.LearningRate:E2}"),
                Invariant($"{s.TokensPerSecond:N0}"),
                Durations.Text(s.EtaSeconds),
            ]
        );

    /// <summary>Shows what is being done within a step.</summary>
    public void Progress(RunProgress progress) => terminal.Show(progress.ToString());

    /// <summary>Writes a line.</summary>
    public void Log(string line) => terminal.WriteLine(line);

    /// <summary>Nothing is being done any more.</summary>
    public void End() => terminal.Show("");

    /// <summary>Reports an evaluation: a line, one about completions without an answer, and one for each set.</summary>
    public void Evaluation(Evaluation e)
    {
        Log(
            $"evaluation after step {e.Step}: {Counted(e, "correct")}, {e.Scores.Accuracy.Percent}{AtMany(e.Scores)}, "
                + Invariant($"{e.MeanLength:F1} tokens an answer, {e.Seconds:F1} s")
        );
        if (Answered(e.Scores) is { } answered)
            Log("  " + answered);
        foreach (var set in e.Sets)
            Log(
                $"  {set.Name}: {set.Correct} of {set.Answers.Count} correct, {set.Scores.Accuracy.Percent}"
                    + $"{AtMany(set.Scores)}{(Answered(set.Scores) is { } found ? ", " + found : "")}, "
                    + Invariant($"{set.MeanLength:F1} tokens an answer")
            );
    }

    /// <summary>How many completions have an answer, and how many of those are correct; null where all have one.</summary>
    private static string? Answered(EvaluationScores scores)
    {
        if (scores.Answered.Estimate == 1)
            return null;
        string correct = scores.AccuracyAnswered is { } accuracy ? $", of which {accuracy.Percent} are correct" : "";
        return $"with an answer: {scores.Answered.Percent}{correct}";
    }

    /// <summary>"474 of 512 correct", with the number of problems when each has several answers.</summary>
    private static string Counted(Evaluation e, string what)
    {
        string problems = e.Scores.ByProblem.Answers > 1 ? $" ({e.Scores.Problems} problems)" : "";
        return $"{e.Correct} of {e.Answers.Count} {what}{problems}";
    }

    /// <summary>pass@k and majority@k, each after a comma.</summary>
    private static string AtMany(EvaluationScores scores) =>
        string.Concat([
            .. scores.PassAt.Select(s => $", pass@{s.K} {s.Share.Percent}"),
            .. scores.MajorityAt.Select(s => $", majority@{s.K} {s.Share.Percent}"),
        ]);

    /// <summary>The final report: accuracy before and after, three problems side by side, files and memory.</summary>
    public void Outcome(RunOutcome o)
    {
        End();
        Log("");
        if (o.Before is { } before && o.After is { } after)
        {
            LogAccuracy("before", before);
            LogAccuracy("after", after);
            LogExamples(before, after);
        }

        if (o.Best is { } best)
            Log($"the best by {best}: {o.BestFolder}");

        Log("");
        Log($"{Durations.Count(o.Step, "step")} in {Durations.Text(o.Seconds)}; files:");
        LogFiles(o.Files);
        var memory = o.PeakMemory.Select(m => Invariant($"{m.Part} {m.Bytes / 1e6:N0} MB"));
        Log("peak memory: " + string.Join(", ", memory));
    }

    /// <summary>The final report of a run on text.</summary>
    public void Outcome(SftOutcome o)
    {
        End();
        Log("");
        string loss = o.Loss is { } nats ? Invariant($", loss {nats:F4} nats a token") : "";
        Log($"{Durations.Count(o.Step, "step")} done{loss}; files:");
        LogFiles(o.Files);
    }

    private void LogFiles(IReadOnlyList<string> files)
    {
        foreach (string file in files)
            Log("  " + file);
    }

    private void LogAccuracy(string name, Evaluation e) =>
        Log(
            $"accuracy {name, -6}  {e.Scores.Accuracy.Percent} (95% interval){AtMany(e.Scores)}: "
                + $"{Counted(e, "held-out answers")}, {Invariant($"{e.MeanLength:F1}")} tokens each"
        );

    /// <summary>Problems that the run has learned to solve.</summary>
    private void LogExamples(Evaluation before, Evaluation after)
    {
        var pairs = before.Answers.Zip(after.Answers);
        foreach (var (old, solved) in pairs.Where(p => !p.First.Correct && p.Second.Correct).Take(3))
        {
            Log("");
            Log($"  problem {OneLine(old.Question)}   gold {OneLine(old.Gold)}");
            Log($"  before  {OneLine(old.Text)}");
            Log($"  after   {OneLine(solved.Text)}");
        }
    }

    /// <summary>
    /// A step's line. On a terminal it stands in columns, whose names are repeated on each screen; elsewhere each value
    /// has its name, so that a line of a log can be read alone.
    /// </summary>
    private void Row(TextTable table, string[] cells)
    {
        if (!terminal.IsLive)
        {
            terminal.WriteLine(table.Named(cells));
            return;
        }

        int width = Terminal.Width;
        if (rowsBelowHeader >= Terminal.Height - 4 || width != headerWidth)
        {
            terminal.WriteLine(table.Header(width));
            rowsBelowHeader = 0;
            headerWidth = width;
        }
        terminal.WriteLine(table.Row(cells, width));
        rowsBelowHeader++;
    }

    private static string OneLine(string text)
    {
        text = text.Replace("\n", "⏎", StringComparison.Ordinal);
        return Terminal.Cut(text, 160);
    }
}
