using System.Globalization;
using SimpleR1.Training.Runs;
using Spectre.Console;

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
    private readonly Queue<string[]> rows = new();
    private readonly bool live =
        !Console.IsOutputRedirected && AnsiConsole.Profile.Capabilities is { Interactive: true, Ansi: true };
    private readonly Lock gate = new(); // workers report from their own threads
    private int linesDrawn,
        widthDrawn;

    public void Step(StepReport r)
    {
        string[] cells =
        [
            string.Create(CultureInfo.InvariantCulture, $"{r.Step}/{r.Steps}"),
            F($"{r.Reward:F3}"),
            F($"{100 * r.Accuracy:F1}%"),
            F($"{r.Length:F1}"),
            F($"{r.Entropy:F3}"),
            F($"{r.GenerationTokensPerSecond:N0}"),
            F($"{r.TrainingTokensPerSecond:N0}"),
            F($"{r.SyncSeconds * 1000:F0} ms"),
            F($"{r.StepSeconds:F2} s"),
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

    /// <summary>A line above the table, which stays the last thing on the screen.</summary>
    public void Say(string line)
    {
        lock (gate)
            Draw(line + Environment.NewLine);
    }

    /// <summary>Puts the text where the table was, and the table below it, in one write so that nothing flickers.</summary>
    private void Draw(string text)
    {
        if (rows.Count == 0)
        {
            Console.Write(text);
            return;
        }
        int width = Console.WindowWidth > 0 ? Console.WindowWidth : 80,
            height = Console.WindowHeight > 0 ? Console.WindowHeight : 24;
        // After a resize the terminal has wrapped what was drawn, nobody knows into how many lines: that stays, and the table starts again below.
        string erase =
            linesDrawn > 0 && widthDrawn == width && linesDrawn < height ? $"\r\x1b[{linesDrawn}A\x1b[J" : "\r";
        while (rows.Count > Math.Clamp(height - 6, 1, MostRows))
            rows.Dequeue();
        var rendered = new StringWriter();
        var console = AnsiConsole.Create(
            new()
            {
                Ansi = AnsiSupport.Yes,
                ColorSystem = ColorSystemSupport.NoColors,
                Out = new AnsiConsoleOutput(rendered),
            }
        );
        console.Profile.Width = width;
        console.Write(Table(width));
        string table = rendered.ToString();
        Console.Write(erase + text + table);
        (linesDrawn, widthDrawn) = (table.Count(c => c == '\n'), width);
    }

    /// <summary>As many columns as the terminal holds, the less telling ones left out first.</summary>
    private Table Table(int width)
    {
        int[] widths = [.. Columns.Select((name, i) => Math.Max(name.Length, rows.Max(r => r[i].Length)) + 3)];
        var shown = Enumerable.Range(0, Columns.Length).ToList();
        foreach (int least in new[] { 7, 4, 6, 5, 8, 3, 2, 9 })
            if (shown.Sum(i => widths[i]) + 1 > width)
                shown.Remove(least);
        var table = new Table().Border(TableBorder.Rounded);
        foreach (int i in shown)
            table.AddColumn(new TableColumn(Columns[i]).RightAligned().NoWrap());
        foreach (var row in rows)
            table.AddRow([.. shown.Select(i => row[i])]);
        return table;
    }

    /// <summary>Nothing is drawn over what is on the screen from here on.</summary>
    private void LeaveTable()
    {
        lock (gate)
        {
            rows.Clear();
            linesDrawn = 0;
        }
    }

    public void Evaluation(Evaluation e)
    {
        Say(
            F(
                $"evaluation after step {e.Step}: {e.Correct} of {e.Answers.Count} correct, {Statistics.Wilson(e.Correct, e.Answers.Count).Percent}, {e.MeanLength:F1} tokens an answer, {e.Seconds:F1} s"
            )
        );
    }

    /// <summary>The end report: accuracy before and after, three problems side by side, files and memory.</summary>
    public void Outcome(RunOutcome o)
    {
        LeaveTable();
        Say("");
        if (o.Before is { } before && o.After is { } after)
        {
            foreach (var (name, e) in new[] { ("before", before), ("after", after) })
                Say(
                    F(
                        $"accuracy {name, -6}  {Statistics.Wilson(e.Correct, e.Answers.Count).Percent} (95% interval): {e.Correct} of {e.Answers.Count} held-out answers, {e.MeanLength:F1} tokens each"
                    )
                );
            var pairs = before
                .Answers.Zip(after.Answers)
                .Where(p => !p.First.Correct && p.Second.Correct)
                .Take(3)
                .ToArray();
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
        foreach (string file in o.Files)
            Say("  " + file);
        Say("peak memory: " + string.Join(", ", o.PeakMemory.Select(m => F($"{m.Process} {m.Bytes / 1e6:N0} MB"))));
    }

    public static string Duration(double seconds) =>
        seconds < 60 ? F($"{seconds:F0} s") : F($"{(int)seconds / 60}:{(int)seconds % 60:00} min");

    private static string OneLine(string text)
    {
        text = text.Replace("\n", "⏎", StringComparison.Ordinal);
        return text.Length <= 160 ? text : text[..157] + "...";
    }

    private static string F(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
