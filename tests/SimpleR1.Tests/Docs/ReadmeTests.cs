using System.CommandLine;
using System.Reflection;
using System.Text.RegularExpressions;
using Xunit;

namespace SimpleR1.Tests.Docs;

/// <summary>What README.md and docs/ say about the repository, against the repository.</summary>
public sealed partial class ReadmeTests
{
    private static string Root => SharedData.RepositoryRoot;
    private static string Readme => File.ReadAllText(Path.Combine(Root, "README.md"));

    /// <summary>Not part of the repository, or (.git) not for reading.</summary>
    private static readonly string[] Unlisted = ["bin", "obj", "runs", "TestResults", "BenchmarkDotNet.Artifacts"];

    [Fact]
    public void List_of_files_names_only_what_exists_with_a_word_about_each()
    {
        var listed = Listed();
        Assert.True(listed.Count > 100, $"only {listed.Count} files found in README.md's list");
        Assert.Equal(
            [],
            listed
                .Where(l =>
                    !Path.Exists(Path.Combine(Root, l.Path))
                    || l.Path.EndsWith('/') != Directory.Exists(Path.Combine(Root, l.Path))
                )
                .Select(l => l.Path)
        );
        Assert.Equal([], listed.Where(l => l.About.Length < 3).Select(l => l.Path));
        Assert.Equal([], listed.CountBy(l => l.Path).Where(c => c.Value > 1).Select(c => c.Key));
    }

    /// <summary>Every folder (of tests/data and recipes/tiny-base only the topmost), every file of src but those of Commands and project files, every file beside them that a person opens.</summary>
    [Fact]
    public void List_of_files_is_complete()
    {
        var listed = Listed().Select(l => l.Path).ToHashSet();
        var folders = Folders("").Where(f => !f.StartsWith("tests/data/", StringComparison.Ordinal)).ToArray();
        var files = folders
            .SelectMany(Files)
            .Where(f =>
                (f, Path.GetExtension(f)) switch
                {
                    ({ } path, ".cs")
                        when path.StartsWith("src/SimpleR1/Commands/", StringComparison.Ordinal)
                            || path.StartsWith("tests/SimpleR1.Tests/", StringComparison.Ordinal) => false,
                    ({ } path, _)
                        when path.StartsWith("examples/my-reward/", StringComparison.Ordinal)
                            || path.StartsWith("docs/decisions/", StringComparison.Ordinal) => false,
                    (_, ".cs" or ".yaml" or ".md" or ".targets" or ".py") => true,
                    _ => false,
                }
            );
        string[] main =
        [
            "README.md",
            "CHANGELOG.md",
            "LICENSE",
            "SimpleR1.slnx",
            "Directory.Build.props",
            "Directory.Packages.props",
        ];
        string[] missing =
        [
            .. folders.Concat(files).Concat(main).Where(path => !listed.Contains(path)).Order(StringComparer.Ordinal),
        ];
        Assert.True(
            missing.Length == 0,
            $"README.md, \"Where everything is\": give each of these a line: {string.Join(", ", missing)}"
        );
    }

    [Theory]
    [InlineData("README.md")]
    [InlineData("docs")]
    public void Links_lead_somewhere(string where)
    {
        int found = 0;
        foreach (string page in Pages(where))
        foreach (Match link in Link().Matches(File.ReadAllText(page)))
        {
            string target = link.Groups[1].Value.Split('#')[0];
            found++;
            if (target.Length == 0 || target.StartsWith("https://", StringComparison.Ordinal))
                continue;
            Assert.True(
                Path.Exists(Path.Combine(Path.GetDirectoryName(page)!, target)),
                $"{page}: the link to {target} leads nowhere"
            );
        }
        Assert.True(found > 3, $"only {found} links in {where}");
    }

    [Fact]
    public void Commands_named_exist_and_each_is_explained()
    {
        string[] commands = [.. Commands().Select(c => c.Name)];
        Assert.Contains("train", commands);
        var named = Pages("README.md")
            .Concat(Pages("docs"))
            .SelectMany(page =>
                Command()
                    .Matches(File.ReadAllText(page))
                    .Select(m => (Page: Path.GetFileName(page), Name: m.Groups[1].Value))
            )
            .ToArray();
        Assert.Equal([], named.Where(n => !commands.Contains(n.Name)));
        Assert.Equal([], commands.Where(c => !Readme.Contains($"| `simple-r1 {c}", StringComparison.Ordinal)));
    }

    /// <summary>Options in a row of the README's table of commands belong to that command.</summary>
    [Fact]
    public void Options_named_exist()
    {
        var commands = Commands().ToDictionary(c => c.Name);
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
            Directory
                .EnumerateFiles(Path.Combine(Root, "examples"), "*.*", SearchOption.AllDirectories)
                .Where(f => f.EndsWith(".cs", StringComparison.Ordinal))
                .Select(File.ReadAllText)
        );
        var blocks = Code().Matches(Readme);
        Assert.True(blocks.Count >= 3);
        foreach (Match block in blocks)
            Assert.Contains(block.Groups[1].Value.TrimEnd(), examples);
    }

    private static IEnumerable<Command> Commands() =>
        Assembly
            .Load("simple-r1")
            .GetTypes()
            .Where(t => t.Namespace?.StartsWith("SimpleR1.Commands", StringComparison.Ordinal) == true)
            .Select(t => t.GetMethod("Create", BindingFlags.Public | BindingFlags.Static))
            .Where(m => m?.ReturnType == typeof(Command))
            .Select(m => (Command)m!.Invoke(null, null)!);

    /// <summary>The list's paths, folders with a slash at the end; indentation by two spaces is one folder down.</summary>
    private static List<(string Path, string About)> Listed()
    {
        var list = new List<(string, string)>();
        var above = new List<string>();
        foreach (
            string line in Regex
                .Match(Readme, "## Where everything is.*?```text\n(.*?)```", RegexOptions.Singleline)
                .Groups[1]
                .Value.Split('\n', StringSplitOptions.RemoveEmptyEntries)
        )
        {
            int depth = (line.Length - line.TrimStart().Length) / 2;
            string name = line.TrimStart().Split(' ')[0];
            above = [.. above.Take(depth), name];
            list.Add((string.Concat(above), line.TrimStart()[name.Length..].Trim()));
        }
        return list;
    }

    private static IEnumerable<string> Folders(string under)
    {
        foreach (string folder in Directory.EnumerateDirectories(Path.Combine(Root, under)))
        {
            string name = Path.GetFileName(folder),
                path = under + name + "/";
            if (name.StartsWith('.') || Unlisted.Contains(name))
                continue;
            if (path != "src/")
                yield return path; // its projects stand for it
            foreach (string inside in Folders(path))
                yield return inside;
        }
    }

    private static IEnumerable<string> Files(string folder) =>
        Directory.EnumerateFiles(Path.Combine(Root, folder)).Select(f => folder + Path.GetFileName(f));

    private static IEnumerable<string> Pages(string where) =>
        where.EndsWith(".md", StringComparison.Ordinal)
            ? [Path.Combine(Root, where)]
            : Directory.EnumerateFiles(Path.Combine(Root, where), "*.md", SearchOption.AllDirectories);

    [GeneratedRegex(@"\]\(([^)\s]+)\)")]
    private static partial Regex Link();

    [GeneratedRegex("simple-r1 ([a-z][a-z-]+)")]
    private static partial Regex Command();

    [GeneratedRegex(@"^\| `simple-r1 ([a-z-]+).*$", RegexOptions.Multiline)]
    private static partial Regex Row();

    [GeneratedRegex("--[a-z]+(-[a-z]+)*")]
    private static partial Regex Option();

    [GeneratedRegex("```csharp\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex Code();
}
