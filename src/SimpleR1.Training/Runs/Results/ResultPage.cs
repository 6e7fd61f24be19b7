using System.Globalization;
using System.Text;
using SimpleR1.Training.Runs.Fingerprints;

namespace SimpleR1.Training.Runs.Results;

/// <summary>A comparison as a page in Markdown: the table, how the recipes differ, and what made the runs.</summary>
internal sealed class ResultPage
{
    private const int LongestCell = 100;
    private const int CommitDigits = 10;
    private readonly StringBuilder text = new();
    private readonly RunComparison comparison;

    private ResultPage(RunComparison comparison) => this.comparison = comparison;

    /// <param name="command">The command line that makes the page; null where a program made it.</param>
    /// <param name="picture">The file name of the picture; null where there is none.</param>
    public static string Write(RunComparison comparison, string title, string? command, string? picture)
    {
        var page = new ResultPage(comparison);
        page.Line($"# {title}");
        page.AddFigures(picture);
        page.AddDifferences();
        page.AddRuns();
        if (command is not null)
            page.Add("## Made by", "", "```sh", Wrapped(MachinePaths.Remove(command)), "```");
        return page.text.ToString();
    }

    private void AddFigures(string? picture)
    {
        var options = comparison.Options;
        Add(
            $"`{options.Metric}` of the first, the last and the best evaluation: the mean over the seeds with its 95%",
            "interval by Student's t; of one seed, the run's own interval over the problems. The best of several",
            "evaluations flatters. A time to a value is that of the first evaluation at or above it, in",
            $"{options.Axis.Label}: mean, range and number of the seeds that reached it."
        );
        AddTable(ResultTable.Headers(options), ResultTable.Rows(comparison));
        if (picture is not null)
            Add($"![{options.Metric}]({picture})");
    }

    private void AddDifferences()
    {
        string[] keys = [.. comparison.DifferingKeys];
        if (keys.Length == 0)
            return;
        Add("## How the recipes differ");
        AddTable(
            ["recipe", .. keys],
            comparison.Groups.Select(g =>
                (IReadOnlyList<string>)[g.Group.Name, .. keys.Select(key => g.Group.Recipe.GetValueOrDefault(key, "-"))]
            )
        );
    }

    private void AddRuns()
    {
        Add("## Runs");
        AddTable(
            ["run", "recipe", "seed", "steps", "started", "program"],
            from @group in comparison.Groups
            from run in @group.Group.Runs
            select (IReadOnlyList<string>)
                [run.Name, @group.Group.Name, $"{run.Seed}", $"{run.Metrics.Steps}", Started(run), Program(run)]
        );
        var machines = comparison
            .Groups.SelectMany(g => g.Group.Runs)
            .SelectMany(run => run.Sessions)
            .Select(session => $"{session.Machine}; {session.Machine.System}")
            .Distinct()
            .ToArray();
        if (machines.Length > 0)
            Add([.. machines.Select(machine => $"- {machine}")]);
    }

    private static string Started(RecordedRun run) =>
        run.Sessions.Count == 0 ? "-" : run.Sessions[0].Started.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture);

    /// <summary>The version and the commit of each program that worked on a run.</summary>
    private static string Program(RecordedRun run) =>
        run.Sessions.Count == 0 ? "-" : string.Join(", ", run.Sessions.Select(Program).Distinct());

    private static string Program(RunOrigin origin) =>
        origin.Commit is { } commit
            ? $"{origin.Version} ({commit[..Math.Min(CommitDigits, commit.Length)]})"
            : origin.Version;

    private void AddTable(IReadOnlyList<string> headers, IEnumerable<IReadOnlyList<string>> rows)
    {
        Add([Row(headers), Row([.. headers.Select(_ => "---")]), .. rows.Select(Row)]);

        static string Row(IReadOnlyList<string> cells) => $"| {string.Join(" | ", cells.Select(Cell))} |";
    }

    private static string Cell(string value)
    {
        string line = MachinePaths.Remove(value).ReplaceLineEndings(" ").Replace("|", "\\|", StringComparison.Ordinal);
        return line.Length <= LongestCell ? line : line[..(LongestCell - 1)] + "…";
    }

    /// <summary>A command line with a break before each option that would not fit.</summary>
    private static string Wrapped(string command)
    {
        const int width = 110;
        var lines = new List<string> { "" };
        foreach (string word in command.Split(' '))
        {
            if (lines[^1].Length + word.Length > width)
                lines.Add("   ");
            lines[^1] += lines[^1].Length == 0 ? word : " " + word;
        }
        return string.Join(" \\\n", lines);
    }

    /// <summary>Adds lines after an empty one.</summary>
    private void Add(params string[] lines)
    {
        Line("");
        foreach (string line in lines)
            Line(line);
    }

    private void Line(string line) => text.Append(line).Append('\n');
}
