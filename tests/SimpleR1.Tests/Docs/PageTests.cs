using System.Text.RegularExpressions;
using Xunit;

namespace SimpleR1.Tests.Docs;

/// <summary>What every Markdown page must keep: lines that fit, links that lead somewhere, a place in the entry page.</summary>
public sealed partial class PageTests
{
    private const int LongestLine = 140;
    private const int LongestCell = 120;

    /// <summary>Made from descriptions in the code, which have limits of their own.</summary>
    private static readonly string[] Generated = ["docs/recipes.md", "docs/commands.md"];

    public static TheoryData<string> All => [.. Pages.Paths];

    [Theory, MemberData(nameof(All))]
    public void Lines_fit(string path)
    {
        var wide = Pages
            .Of(path)
            .Lines.Select((text, index) => (Text: text, Number: index + 1))
            .Where(l => !l.Text.StartsWith('|') && l.Text.Length > LongestLine)
            .Select(l => $"{path}:{l.Number} has {l.Text.Length} characters");
        Assert.Equal([], wide);
    }

    [Theory, MemberData(nameof(All))]
    public void Table_cells_fit(string path)
    {
        if (Generated.Contains(path))
            return;
        var wide = Pages
            .Of(path)
            .Lines.Select((text, index) => (Text: text, Number: index + 1))
            .Where(l => l.Text.StartsWith('|'))
            .SelectMany(l => CellBorder().Split(l.Text).Select(cell => (l.Number, Cell: Shown(cell.Trim()))))
            .Where(c => c.Cell.Length > LongestCell)
            .Select(c => $"{path}:{c.Number} has a cell of {c.Cell.Length} characters");
        Assert.Equal([], wide);
    }

    [Theory, MemberData(nameof(All))]
    public void Links_lead_somewhere(string path)
    {
        var page = Pages.Of(path);
        foreach (Match link in Link().Matches(page.Prose))
        {
            string target = link.Groups[1].Value;
            if (target.StartsWith("https://", StringComparison.Ordinal))
                continue;
            string[] parts = target.Split('#');
            string file = parts[0].Length == 0 ? page.FullPath : Path.Combine(page.Folder, parts[0]);
            Assert.True(Path.Exists(file), $"{path}: the link to {target} leads nowhere");
            if (parts.Length > 1)
                Assert.True(
                    Anchors(File.ReadAllText(file)).Contains(parts[1]),
                    $"{path}: the link to {target} names no heading there"
                );
        }
    }

    [Fact]
    public void Entry_page_lists_every_page_and_decision()
    {
        var entry = Pages.Of("docs/README.md");
        var linked = Link().Matches(entry.Text).Select(m => "docs/" + m.Groups[1].Value).ToHashSet();
        Assert.Equal([], Pages.Docs.Select(p => p.Path).Where(p => p != entry.Path && !linked.Contains(p)));
    }

    [Fact]
    public void Figures_have_a_date_a_commit_and_a_command()
    {
        var page = Pages.Of("docs/measurements.md");
        var sections = Regex.Split(page.Text, "^## ", RegexOptions.Multiline).Skip(1).ToArray();
        Assert.True(sections.Length >= 8, $"only {sections.Length} sections of figures");
        foreach (string section in sections)
        {
            string name = section.Split('\n')[0];
            Assert.True(Date().IsMatch(section), $"{name}: no date");
            Assert.True(Commit().IsMatch(section), $"{name}: no commit");
            Assert.True(
                section.Contains("`simple-r1 ", StringComparison.Ordinal)
                    || section.Contains("`benchmarks ", StringComparison.Ordinal)
                    || section.Contains("has the command", StringComparison.Ordinal),
                $"{name}: no command"
            );
        }
    }

    /// <summary>A cell as readers see it: links by their text.</summary>
    private static string Shown(string cell) => Regex.Replace(cell, @"\[([^\]]*)\]\([^)]*\)", "$1");

    /// <summary>Headings as GitHub names them in links.</summary>
    private static HashSet<string> Anchors(string text) =>
        [
            .. Regex
                .Matches(text, "^#+ (.*)$", RegexOptions.Multiline)
                .Select(m =>
                    Regex.Replace(m.Groups[1].Value.ToLowerInvariant(), @"[^\p{L}\p{N} _-]", "").Replace(' ', '-')
                ),
        ];

    [GeneratedRegex(@"\]\(([^)\s]+)\)")]
    private static partial Regex Link();

    [GeneratedRegex(@"(?<!\\)\|")]
    private static partial Regex CellBorder();

    [GeneratedRegex(@"\b20\d\d-\d\d-\d\d\b")]
    private static partial Regex Date();

    [GeneratedRegex("commit `[0-9a-f]{7}`")]
    private static partial Regex Commit();
}
