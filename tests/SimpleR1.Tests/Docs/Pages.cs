using System.CommandLine;
using System.Reflection;
using System.Text.RegularExpressions;

namespace SimpleR1.Tests.Docs;

/// <summary>A Markdown file of the repository.</summary>
/// <param name="Path">Relative to the root, with '/'.</param>
internal sealed record Page(string Path, string Text)
{
    private static readonly Regex Block = new("^ *```.*?^ *```", RegexOptions.Multiline | RegexOptions.Singleline);

    public string FullPath => System.IO.Path.Combine(SharedData.RepositoryRoot, Path);
    public string Folder => System.IO.Path.GetDirectoryName(FullPath)!;
    public string[] Lines => Text.Split('\n');

    /// <summary>Everything but blocks of code.</summary>
    public string Prose => Block.Replace(Text, "");

    /// <summary>The contents of all blocks of code in a language.</summary>
    public IEnumerable<string> Blocks(string language) =>
        Regex
            .Matches(Text, $"^ *```{language}\n(.*?)^ *```", RegexOptions.Multiline | RegexOptions.Singleline)
            .Select(m => m.Groups[1].Value);

    /// <summary>What stands in backticks outside of blocks of code.</summary>
    public IEnumerable<string> Spans => Regex.Matches(Prose, "`([^`\n]+)`").Select(m => m.Groups[1].Value);
}

/// <summary>The repository's Markdown files, and what they are checked against.</summary>
internal static class Pages
{
    /// <summary>Written by tools, or not part of the repository.</summary>
    private static readonly string[] Skipped =
    [
        "bin",
        "obj",
        "runs",
        "TestResults",
        "BenchmarkDotNet.Artifacts",
        "node_modules",
    ];

    private static string Root => SharedData.RepositoryRoot;

    public static Page Readme => All.Single(p => p.Path == "README.md");
    public static IEnumerable<Page> Docs => All.Where(p => p.Path.StartsWith("docs/", StringComparison.Ordinal));

    public static IReadOnlyList<Page> All { get; } =
    [.. Files("*.md").Select(path => new Page(path, File.ReadAllText(Path.Combine(Root, path))))];

    /// <summary>The pages' paths, for theories.</summary>
    public static IEnumerable<string> Paths => All.Select(p => p.Path);

    public static Page Of(string path) => All.Single(p => p.Path == path);

    /// <summary>The repository's files by a pattern, relative to the root, without what tools write.</summary>
    public static IEnumerable<string> Files(string pattern, string under = "") =>
        Walk(Path.Combine(Root, under))
            .SelectMany(folder => Directory.EnumerateFiles(folder, pattern))
            .Select(file => Path.GetRelativePath(Root, file).Replace('\\', '/'))
            .Order(StringComparer.Ordinal);

    /// <summary>The commands of the program, by reflection as the root command has no other list.</summary>
    public static IReadOnlyList<Command> Commands { get; } =
    [
        .. Assembly
            .Load("simple-r1")
            .GetTypes()
            .Where(t => t.Namespace?.StartsWith("SimpleR1.Commands", StringComparison.Ordinal) == true)
            .Select(t => t.GetMethod("Create", BindingFlags.Public | BindingFlags.Static))
            .Where(m => m?.ReturnType == typeof(Command))
            .Select(m => (Command)m!.Invoke(null, null)!),
    ];

    private static IEnumerable<string> Walk(string folder)
    {
        yield return folder;
        foreach (string inside in Directory.EnumerateDirectories(folder))
        {
            string name = Path.GetFileName(inside);
            if (name.StartsWith('.') || Skipped.Contains(name))
                continue;
            foreach (string deeper in Walk(inside))
                yield return deeper;
        }
    }
}
