using SimpleR1.Training.Runs.Results;

namespace SimpleR1.Screen;

/// <summary>A comparison of runs on the console.</summary>
internal static class ResultReport
{
    /// <summary>Characters of a line where output does not go to a terminal.</summary>
    private const int PlainWidth = 1000;

    /// <summary>Thresholds are left out first where the terminal is narrow.</summary>
    private const int ThresholdRank = 7;

    private static readonly Dictionary<string, int> Ranks = new()
    {
        ["recipe"] = 0,
        ["best"] = 0,
        ["last"] = 1,
        ["first"] = 2,
        ["seeds"] = 3,
        ["training, min"] = 4,
        ["steps"] = 5,
    };

    /// <summary>Prints the table.</summary>
    public static void Print(RunComparison comparison)
    {
        int width = Console.IsOutputRedirected ? PlainWidth : Terminal.Width;
        foreach (string line in Lines(comparison, width))
            Console.WriteLine(line);
    }

    /// <summary>The table in lines of at most so many characters.</summary>
    internal static IEnumerable<string> Lines(RunComparison comparison, int width)
    {
        var table = new TextTable([
            .. ResultTable
                .Headers(comparison.Options)
                .Select(name => new TextColumn(name, 0, Ranks.GetValueOrDefault(name, ThresholdRank))
                {
                    IsText = name is "recipe" or "seeds",
                }),
        ]);
        return table.Lines([.. ResultTable.Rows(comparison).Select(row => row.ToArray())], width);
    }
}
