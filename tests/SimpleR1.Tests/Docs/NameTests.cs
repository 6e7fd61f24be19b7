using System.Text.RegularExpressions;
using SimpleR1.Training.Recipes;
using Xunit;

namespace SimpleR1.Tests.Docs;

/// <summary>Names that the pages use (types, members, files, commands, options, recipe keys) against the code.</summary>
public sealed partial class NameTests
{
    /// <summary>Names of other projects and of the system.</summary>
    private static readonly HashSet<string> Foreign =
    [
        "AutoTokenizer",
        "DeclareDeadAsync",
        "Helper",
        "LivenessEnabled",
        "Manager",
        "MemoryMappedFile",
        "Normalize",
        "NumMissedProbesLimit",
        "Parallel.For",
        "ProbeTimeout",
        "PyNcclCommunicator",
        "SslStream",
        "System.Math",
        "Util",
    ];

    private static readonly HashSet<string> ForeignOptions =
    [
        "--class",
        "--ignore-rev",
        "--no-build",
        "--project",
        "--repo-type",
        "--local-dir",
        "--weight-transfer-config",
        "--logdir",
        "--logprobs-mode",
    ];

    public static TheoryData<string> All => [.. Pages.Paths];

    [Theory, MemberData(nameof(All))]
    public void Types_and_members_exist(string path) =>
        Assert.Equal(
            [],
            Pages
                .Of(path)
                .Spans.Select(s => Generics().Replace(s, "").Replace("()", "", StringComparison.Ordinal))
                .Where(s => TypeName().IsMatch(s) && !Foreign.Contains(s) && !CodeNames.Instance.Has(s))
                .Distinct()
        );

    [Theory, MemberData(nameof(All))]
    public void Files_exist(string path)
    {
        var files = Pages.Files("*").ToArray();
        var page = Pages.Of(path);
        string own = Path.GetDirectoryName(path)!.Replace('\\', '/');
        Assert.Equal(
            [],
            page.Spans.Where(s => FileName().IsMatch(s))
                .Distinct()
                .Where(s => !files.Any(f => f == s || f.EndsWith("/" + s, StringComparison.Ordinal)))
                .Where(s => !File.Exists(Path.Combine(SharedData.RepositoryRoot, own, s)) && !IsMade(s))
        );
    }

    [Theory, MemberData(nameof(All))]
    public void Commands_exist(string path)
    {
        string[] commands = [.. Pages.Commands.Select(c => c.Name)];
        Assert.Equal(
            [],
            Command()
                .Matches(Pages.Of(path).Text)
                .Select(m => m.Groups[1].Value)
                .Where(name => !commands.Contains(name))
                .Distinct()
        );
    }

    /// <summary>Every option in backticks is one of some command.</summary>
    [Theory, MemberData(nameof(All))]
    public void Options_exist(string path)
    {
        var options = Pages
            .Commands.SelectMany(c => c.Subcommands.Prepend(c))
            .SelectMany(c => c.Options)
            .SelectMany(o => o.Aliases.Append(o.Name))
            .Append("--help")
            .ToHashSet();
        Assert.Equal(
            [],
            Pages
                .Of(path)
                .Spans.SelectMany(s => Option().Matches(s).Select(m => m.Value))
                .Where(o => !options.Contains(o) && !ForeignOptions.Contains(o))
                .Distinct()
        );
    }

    /// <summary>A line of a block of code that starts the program is a command line that it takes.</summary>
    [Theory, MemberData(nameof(All))]
    public void Command_lines_shown_are_accepted(string path)
    {
        var commands = Pages.Commands.ToDictionary(c => c.Name);
        foreach (string line in Pages.Of(path).Blocks("sh").SelectMany(CommandLines))
        {
            string[] words = [.. Words(line)];
            Assert.True(commands.ContainsKey(words[0]), $"{path}: no command of: simple-r1 {line}");
            var parsed = commands[words[0]].Parse(words[1..], new() { ResponseFileTokenReplacer = null });
            Assert.True(
                parsed.Errors.Count == 0,
                $"{path}: simple-r1 {line}: {string.Join("; ", parsed.Errors.Select(e => e.Message))}"
            );
        }
    }

    [Theory, MemberData(nameof(All))]
    public void Recipe_keys_exist(string path)
    {
        var (sections, keys) = RecipeKeys();
        Assert.Equal(
            [],
            Pages
                .Of(path)
                .Spans.Select(s => s.Split(':')[0])
                .Where(s =>
                    Dotted().IsMatch(s)
                    && !DataFile().IsMatch(s)
                    && sections.Contains(s.Split('.')[0])
                    && !keys.Contains(s)
                )
                .Distinct()
        );
    }

    [Theory, MemberData(nameof(All))]
    public void Whole_recipes_shown_are_valid(string path)
    {
        foreach (
            string recipe in Pages.Of(path).Blocks("yaml").Where(b => b.StartsWith("name:", StringComparison.Ordinal))
        )
        {
            string file = Path.GetTempFileName();
            try
            {
                File.WriteAllText(file, recipe);
                RecipeFile.Load<TrainRecipe>(file);
            }
            finally
            {
                File.Delete(file);
            }
        }
    }

    /// <summary>Written by a run, a user or another program, so not in the repository.</summary>
    private static bool IsMade(string name) =>
        name is "my.yaml" or "gsm8k.yaml" or "api_router.py" or "a.cs" or "recipe.yaml"
        || name.StartsWith("entrypoints/", StringComparison.Ordinal);

    private static IEnumerable<string> CommandLines(string block) =>
        block
            .Replace("\\\n", " ", StringComparison.Ordinal)
            .Split('\n')
            .Select(l => Prefix().Match(l.Trim()))
            .Where(m => m.Success)
            .Select(m => Comment().Replace(m.Groups[1].Value, "").Trim().TrimEnd('&').Trim());

    /// <summary>Words as a shell splits them.</summary>
    private static IEnumerable<string> Words(string line) =>
        Word().Matches(line).Select(m => m.Value.Replace("'", "").Replace("\"", ""));

    private static (HashSet<string> Sections, HashSet<string> Keys) RecipeKeys()
    {
        var sections = new HashSet<string>();
        var keys = new HashSet<string>();
        Collect(typeof(TrainRecipe), "");
        Collect(typeof(SftRecipe), "");
        return (sections, keys);

        void Collect(Type type, string above)
        {
            foreach (var key in RecipeKey.Of(type))
            {
                keys.Add(above + key.Name);
                if (!RecipeKey.IsSection(key.Type))
                    continue;
                if (above.Length == 0)
                    sections.Add(key.Name);
                Collect(key.Type, $"{above}{key.Name}.");
            }
        }
    }

    [GeneratedRegex("<.*>")]
    private static partial Regex Generics();

    /// <summary>PascalCase with a small letter, perhaps with dots; words of one capital letter only are not code.</summary>
    [GeneratedRegex(@"^[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*(\.[A-Z][A-Za-z0-9]*)*$")]
    private static partial Regex TypeName();

    [GeneratedRegex(@"^[A-Za-z0-9_./-]+\.(cs|cu|cuh|cpp|sh|targets|yaml|csproj|py)$")]
    private static partial Regex FileName();

    [GeneratedRegex("simple-r1 ([a-z][a-z-]+)")]
    private static partial Regex Command();

    [GeneratedRegex("(?<![A-Za-z0-9-])--[a-z]+(-[a-z]+)*")]
    private static partial Regex Option();

    [GeneratedRegex("^(?:simple-r1|dotnet run -c Release --project src/SimpleR1 --|.gpu/run/simple-r1) (.+)$")]
    private static partial Regex Prefix();

    [GeneratedRegex(" +(#|>|\\|| &).*$")]
    private static partial Regex Comment();

    [GeneratedRegex("""(?:[^\s"']|"[^"]*"|'[^']*')+""")]
    private static partial Regex Word();

    [GeneratedRegex(@"\.(safetensors|json|jsonl|parquet|yaml|png|md)$")]
    private static partial Regex DataFile();

    [GeneratedRegex("^[a-z_]+(\\.[a-z_0-9]+)+$")]
    private static partial Regex Dotted();
}
