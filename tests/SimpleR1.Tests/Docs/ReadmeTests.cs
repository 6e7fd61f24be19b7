using System.Text.RegularExpressions;
using Xunit;

namespace SimpleR1.Tests.Docs;

/// <summary>What README.md says about the repository, against the repository.</summary>
public sealed partial class ReadmeTests
{
    private const int MostLines = 250;
    private const int LargestPicture = 60_000;

    private static string Root => SharedData.RepositoryRoot;
    private static string Readme => Pages.Readme.Text;

    [Fact]
    public void It_is_short_and_shows_a_run()
    {
        Assert.InRange(Pages.Readme.Lines.Length, 150, MostLines);
        var picture = Picture().Match(Readme);
        Assert.True(picture.Success, "README.md shows no picture");
        Assert.InRange(new FileInfo(Path.Combine(Root, picture.Groups[1].Value)).Length, 1000, LargestPicture);
    }

    [Fact]
    public void Two_commands_are_those_that_everybody_knows()
    {
        string[] commands = [.. Pages.Readme.Blocks("sh").First().Split('\n', StringSplitOptions.RemoveEmptyEntries)];
        Assert.Equal(
            ["dotnet run -c Release --project src/SimpleR1 -- train recipes/quickstart.yaml", "dotnet test -c Release"],
            commands
        );
        Assert.Contains(commands[1], File.ReadAllText(Path.Combine(Root, ".ci", "run")));
    }

    [Fact]
    public void Map_has_a_line_for_every_project_and_folder()
    {
        var folders = Directory
            .EnumerateDirectories(Path.Combine(Root, "src"))
            .Select(f => "src/" + Path.GetFileName(f))
            .Concat(Directory.EnumerateDirectories(Root).Select(f => Path.GetFileName(f)!))
            .Where(f =>
                !f.StartsWith('.') && f is not ("src" or "runs" or "TestResults" or "BenchmarkDotNet.Artifacts")
            );
        string map = Readme[Readme.IndexOf("## Where everything is", StringComparison.Ordinal)..];
        Assert.Equal([], folders.Where(f => !map.Contains($"[{f}](", StringComparison.Ordinal)).Order());
    }

    [Fact]
    public void Eight_files_are_to_be_read_in_order()
    {
        string[] order =
        [
            .. Source()
                .Matches(Readme[Readme.IndexOf("these eight files", StringComparison.Ordinal)..])
                .Select(m => m.Groups[1].Value),
        ];
        Assert.Equal(
            ["R1Zero", "Experiment", "Algorithm", "PolicyModel", "Engine", "Scheduler", "Decoder", "WeightUpdate"],
            order
        );
    }

    [Fact]
    public void Table_explains_each_command()
    {
        var commands = Pages.Commands.Select(c => c.Name).ToArray();
        Assert.Contains("train", commands);
        Assert.Equal([], commands.Where(c => !Readme.Contains($"| `simple-r1 {c}", StringComparison.Ordinal)));
    }

    /// <summary>Options in a row of the table of commands belong to that command.</summary>
    [Fact]
    public void Options_of_the_table_exist()
    {
        var commands = Pages.Commands.ToDictionary(c => c.Name);
        int found = 0;
        foreach (Match row in Row().Matches(Readme))
        foreach (Match option in Option().Matches(row.Value))
        {
            found++;
            Assert.True(
                commands[row.Groups[1].Value].Options.Any(o => o.Name == option.Value),
                $"simple-r1 {row.Groups[1].Value} has no option {option.Value}"
            );
        }
        Assert.True(found >= 5);
    }

    [Fact]
    public void Code_shown_is_code_of_the_examples()
    {
        string examples = string.Join(
            "\n",
            Pages.Files("*.cs", "examples").Select(f => File.ReadAllText(Path.Combine(Root, f)))
        );
        string[] blocks = [.. Pages.Readme.Blocks("csharp")];
        Assert.True(blocks.Length >= 3);
        foreach (string block in blocks)
            Assert.Contains(block.TrimEnd(), examples);
    }

    [GeneratedRegex(@"!\[[^\]]+\]\(([^)]+\.png)\)")]
    private static partial Regex Picture();

    [GeneratedRegex(@"\[([A-Za-z0-9]+)\]\(src/[^)]*\.cs\)")]
    private static partial Regex Source();

    [GeneratedRegex(@"^\| `simple-r1 ([a-z-]+).*$", RegexOptions.Multiline)]
    private static partial Regex Row();

    [GeneratedRegex("--[a-z]+(-[a-z]+)*")]
    private static partial Regex Option();
}
