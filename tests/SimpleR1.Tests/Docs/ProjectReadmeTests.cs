using System.Text.RegularExpressions;
using Xunit;

namespace SimpleR1.Tests.Docs;

/// <summary>
/// Each project of src, and each other folder with code, has a README.md with one line for every file: compared with the tree.
/// </summary>
public sealed partial class ProjectReadmeTests
{
    private const int FewestLines = 15;
    private const int MostLinesBesidesTheList = 40;
    private static readonly string[] Listed = [".cs", ".cu", ".cuh"];

    /// <summary>What is listed outside of src.</summary>
    private static readonly string[] ListedElsewhere = [".cs", ".py", ".sh", ".yaml", ".sbatch", ".targets"];

    public static TheoryData<string> Projects =>
        [
            .. Directory
                .EnumerateDirectories(Path.Combine(SharedData.RepositoryRoot, "src"))
                .Select(f => "src/" + Path.GetFileName(f))
                .Order(StringComparer.Ordinal),
        ];

    [Theory, MemberData(nameof(Projects))]
    public void Readme_is_short(string project)
    {
        int lines = Readme(project).Lines.Length;
        Assert.InRange(lines, FewestLines, MostLinesBesidesTheList + Lines(project).Count());
    }

    [Theory, MemberData(nameof(Projects))]
    public void Readme_has_one_line_for_each_file(string project)
    {
        var files = Pages
            .Files("*", project)
            .Where(f => Listed.Contains(Path.GetExtension(f)))
            .Select(f => f[(project.Length + 1)..])
            .ToArray();
        Assert.NotEmpty(files);

        var lines = Lines(project).ToArray();
        var twice = lines.CountBy(l => l.Path).Where(c => c.Value > 1).Select(c => c.Key);
        var missing = files.Except(lines.Select(l => l.Path)).Order(StringComparer.Ordinal);

        Assert.Equal([], twice);
        Assert.True(
            !missing.Any(),
            $"{project}/README.md: give each of these a line in its list of files: {string.Join(", ", missing)}"
        );
    }

    [Theory]
    [InlineData("benchmarks")]
    [InlineData("build")]
    [InlineData("deploy")]
    [InlineData("examples")]
    [InlineData("recipes")]
    public void Readme_of_another_folder_has_one_line_for_each_file(string folder)
    {
        var listed = Lines(folder).Select(l => l.Path).ToArray();
        var files = Pages
            .Files("*", folder)
            .Where(f => ListedElsewhere.Contains(Path.GetExtension(f)))
            .Select(f => f[(folder.Length + 1)..])
            .ToArray();
        Assert.Equal(files.Order(StringComparer.Ordinal), listed.Where(files.Contains).Order(StringComparer.Ordinal));
        Readme_names_only_what_exists_with_a_word_about_each(folder);
    }

    [Fact]
    public void Readme_of_the_tests_has_one_line_for_each_folder()
    {
        var listed = Lines("tests").Select(l => l.Path).ToArray();
        var folders = Directory
            .EnumerateDirectories(Path.Combine(SharedData.RepositoryRoot, "tests", "SimpleR1.Tests"))
            .Select(f => $"SimpleR1.Tests/{Path.GetFileName(f)}/")
            .Where(f => f is not ("SimpleR1.Tests/bin/" or "SimpleR1.Tests/obj/"));
        Assert.Equal([], folders.Except(listed));
        Readme_names_only_what_exists_with_a_word_about_each("tests");
    }

    [Theory, MemberData(nameof(Projects))]
    public void Readme_names_only_what_exists_with_a_word_about_each(string project)
    {
        string root = Path.Combine(SharedData.RepositoryRoot, project);
        foreach (var (path, about) in Lines(project))
        {
            bool isFolder = path.EndsWith('/');
            bool exists = isFolder ? Directory.Exists(Path.Combine(root, path)) : File.Exists(Path.Combine(root, path));
            Assert.True(exists, $"{project}/README.md: there is no {path}");
            Assert.True(isFolder || about.Length >= 3, $"{project}/README.md: nothing is said about {path}");
        }
    }

    private static Page Readme(string project)
    {
        var page = Pages.All.FirstOrDefault(p => p.Path == $"{project}/README.md");
        Assert.True(page is not null, $"{project} has no README.md");
        return page!;
    }

    /// <summary>The list's paths, folders with a slash at the end. Two spaces of indentation are one folder down.</summary>
    private static IEnumerable<(string Path, string About)> Lines(string project)
    {
        var above = new List<string>();
        foreach (
            string line in Readme(project)
                .Blocks("text")
                .SelectMany(block => block.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        )
        {
            // Diagrams and flows are text blocks too: only lines that begin with a path count.
            if (Entry().Match(line) is not { Success: true } entry)
                continue;
            int depth = entry.Groups[1].Length / 2;
            string name = entry.Groups[2].Value;
            above = [.. above.Take(depth), name];
            yield return (string.Concat(above), entry.Groups[3].Value.Trim());
        }
    }

    [GeneratedRegex(
        @"^((?:  )*)([A-Za-z0-9_./-]+(?:\.cs|\.cu|\.cuh|\.py|\.sh|\.yaml|\.sbatch|\.targets|\.ttf|\.txt|/)|Dockerfile)(\s.*)?$"
    )]
    private static partial Regex Entry();
}
