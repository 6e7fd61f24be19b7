using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Evaluations;
using Spectre.Console;
using static System.FormattableString;

namespace SimpleR1;

/// <summary>A run on the console: a live table on a terminal, one plain line a step elsewhere.</summary>
internal sealed class ConsoleReport
{
    private const int MostRows = 15;
    private static readonly string[] Columns =
    [
        "step",
        "reward",
        "accuracy",
        "length",
        "entropy",
        "gen tok/s",
        "train tok/s",
        "sync",
        "step time",
        "left",
    ];

    /// <summary>Columns that a narrow terminal leaves out, the least useful one first.</summary>
    private static readonly string[] Droppable =
    [
        "sync",
        "entropy",
        "train tok/s",
        "gen tok/s",
        "step time",
        "length",
        "accuracy",
        "left",
    ];

    private readonly Queue<string[]> rows = new();
    private readonly bool live =
        !Console.IsOutputRedirected && AnsiConsole.Profile.Capabilities is { Interactive: true, Ansi: true };
    private readonly Lock gate = new(); // workers report from their own threads
    private int linesDrawn;
    private int widthDrawn;

    /// <summary>Reports a step.</summary>
    public void Step(StepReport r)
    {
        string[] cells =
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
            Duration(r.EtaSeconds),
        ];
        if (!live)
        {
            Console.WriteLine(string.Join("  ", Columns.Zip(cells, (name, value) => $"{name} {value}")));
            return;
        }

        lock (gate)
        {
            rows.Enqueue(cells);
            Draw("");
        }
    }

    /// <summary>Writes a line above the table, which stays the last thing on the screen.</summary>
    public void Log(string line)
    {
        lock (gate)
            Draw(line + Environment.NewLine);
    }

    /// <summary>Reports an evaluation.</summary>
    public void Evaluation(Evaluation e) =>
        Log(
            $"evaluation after step {e.Step}: {Counted(e, "correct")}, {e.Scores.Accuracy.Percent}{AtMany(e.Scores)}, "
                + Invariant($"{e.MeanLength:F1} tokens an answer, {e.Seconds:F1} s")
        );

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
        LeaveTable();
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
        Log($"{o.Step} steps in {Duration(o.Seconds)}; files:");
        foreach (string file in o.Files)
            Log("  " + file);
        var memory = o.PeakMemory.Select(m => Invariant($"{m.Process} {m.Bytes / 1e6:N0} MB"));
        Log("peak memory: " + string.Join(", ", memory));
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
    /// Puts the text where the table was and the table below it, in one write so that nothing flickers.
    /// </summary>
    private void Draw(string text)
    {
        if (rows.Count == 0)
        {
            Console.Write(text);
            return;
        }

        // The new table.
        int width = Console.WindowWidth > 0 ? Console.WindowWidth : 80;
        int height = Console.WindowHeight > 0 ? Console.WindowHeight : 24;
        while (rows.Count > Math.Clamp(height - 6, 1, MostRows))
            rows.Dequeue();
        string table = Render(width);

        // After a resize the terminal has wrapped the old table into an unknown number of lines: leave it, and start
        // again below.
        bool canErase = linesDrawn > 0 && widthDrawn == width && linesDrawn < height;
        string erase = canErase ? $"\r\x1b[{linesDrawn}A\x1b[J" : "\r";
        Console.Write(erase + text + table);
        linesDrawn = table.Count(c => c == '\n');
        widthDrawn = width;
    }

    private string Render(int width)
    {
        var text = new StringWriter();
        var console = AnsiConsole.Create(
            new()
            {
                Ansi = AnsiSupport.Yes,
                ColorSystem = ColorSystemSupport.NoColors,
                Out = new AnsiConsoleOutput(text),
            }
        );
        console.Profile.Width = width;
        console.Write(MakeTable(width));
        return text.ToString();
    }

    /// <summary>As many columns as the terminal holds.</summary>
    private Table MakeTable(int width)
    {
        const int padding = 3;
        int[] widths = [.. Columns.Select((name, i) => Math.Max(name.Length, rows.Max(r => r[i].Length)) + padding)];
        var shown = Enumerable.Range(0, Columns.Length).ToList();
        foreach (string name in Droppable)
            if (shown.Sum(i => widths[i]) + 1 > width)
                shown.Remove(Array.IndexOf(Columns, name));

        var table = new Table().Border(TableBorder.Rounded);
        foreach (int i in shown)
            table.AddColumn(new TableColumn(Columns[i]).RightAligned().NoWrap());
        foreach (var row in rows)
            table.AddRow([.. shown.Select(i => row[i])]);
        return table;
    }

    /// <summary>Draws nothing over what is on the screen from here on.</summary>
    private void LeaveTable()
    {
        lock (gate)
        {
            rows.Clear();
            linesDrawn = 0;
        }
    }

    public static string Duration(double seconds) =>
        seconds < 60 ? Invariant($"{seconds:F0} s") : Invariant($"{(int)seconds / 60}:{(int)seconds % 60:00} min");

    private static string OneLine(string text)
    {
        text = text.Replace("\n", "⏎", StringComparison.Ordinal);
        return text.Length <= 160 ? text : text[..157] + "...";
    }
}
