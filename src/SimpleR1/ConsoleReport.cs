using System.Globalization;
using SimpleR1.Training;
using Spectre.Console;

namespace SimpleR1;

/// <summary>A run on the console: a live table on a terminal, one plain line a step elsewhere.</summary>
internal sealed class ConsoleReport
{
    private const int RowsShown = 15;
    private static readonly string[] Columns = ["step", "reward", "accuracy", "length", "entropy", "gen tok/s", "train tok/s", "sync", "step time", "left"];
    private readonly Queue<string[]> rows = new();
    private readonly bool live = !Console.IsOutputRedirected && AnsiConsole.Profile.Capabilities.Interactive;
    private int linesDrawn;

    public void Step(StepReport r)
    {
        string[] cells =
        [
            string.Create(CultureInfo.InvariantCulture, $"{r.Step}/{r.Steps}"), F($"{r.Reward:F3}"), F($"{r.Accuracy:P1}"), F($"{r.Length:F1}"), F($"{r.Entropy:F3}"),
            F($"{r.GenerationTokensPerSecond:N0}"), F($"{r.TrainingTokensPerSecond:N0}"), F($"{r.SyncSeconds * 1000:F0} ms"), F($"{r.StepSeconds:F2} s"), Duration(r.EtaSeconds),
        ];
        if (!live)
        {
            Console.WriteLine(string.Join("  ", Columns.Zip(cells, (name, value) => $"{name} {value}")));
            return;
        }
        rows.Enqueue(cells);
        if (rows.Count > RowsShown) rows.Dequeue();
        var table = new Table().Border(TableBorder.Rounded);
        foreach (string column in Columns) table.AddColumn(new TableColumn(column).RightAligned());
        foreach (var row in rows) table.AddRow(row);
        if (linesDrawn > 0) Console.Write($"\x1b[{linesDrawn}A\x1b[J"); // redraw in place
        AnsiConsole.Write(table);
        linesDrawn = rows.Count + 4;
    }

    public void Say(string line)
    {
        linesDrawn = 0; // what is above stays
        Console.WriteLine(line);
    }

    public void Evaluation(Evaluation e)
    {
        Say(F($"evaluation after step {e.Step}: {e.Correct} of {e.Answers.Count} correct, {Statistics.Wilson(e.Correct, e.Answers.Count).Percent}, {e.MeanLength:F1} tokens an answer, {e.Seconds:F1} s"));
    }

    /// <summary>The end report: accuracy before and after, three problems side by side, files and memory.</summary>
    public void Outcome(RunOutcome o)
    {
        Say("");
        if (o.Interrupted) Say($"stopped after step {o.Step} and saved; go on with --resume");
        if (o.Before is { } before && o.After is { } after)
        {
            foreach (var (name, e) in new[] { ("before", before), ("after", after) })
                Say(F($"accuracy {name,-6}  {Statistics.Wilson(e.Correct, e.Answers.Count).Percent} (95% interval): {e.Correct} of {e.Answers.Count} held-out answers, {e.MeanLength:F1} tokens each"));
            var pairs = before.Answers.Zip(after.Answers).Where(p => !p.First.Correct && p.Second.Correct).Take(3).ToArray();
            foreach (var (b, a) in pairs)
            {
                Say("");
                Say($"  problem {OneLine(b.Question)}   gold {OneLine(b.Gold)}");
                Say($"  before  {OneLine(b.Text)}");
                Say($"  after   {OneLine(a.Text)}");
            }
        }
        Say("");
        Say($"{o.Step} steps in {Duration(o.Seconds)}; files:");
        foreach (string file in o.Files) Say("  " + file);
        Say("peak memory: " + string.Join(", ", o.PeakMemory.Select(m => F($"{m.Process} {m.Bytes / 1e6:N0} MB"))));
    }

    public static string Duration(double seconds) => seconds < 60 ? F($"{seconds:F0} s") : F($"{(int)seconds / 60}:{(int)seconds % 60:00} min");

    private static string OneLine(string text)
    {
        text = text.Replace("\n", "⏎", StringComparison.Ordinal);
        return text.Length <= 160 ? text : text[..157] + "...";
    }

    private static string F(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
