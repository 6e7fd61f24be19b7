using System.Text.RegularExpressions;
using Xunit;

namespace SimpleR1.Tests.Style;

/// <summary>CONTRIBUTING.md's rules for lines, sizes, places and words, against every file of the repository.</summary>
public sealed partial class StyleTests
{
    /// <summary>Files that are one straight story and longer than the limit, with the reason.</summary>
    private static readonly Dictionary<string, string> LongFiles = [];

    /// <summary>Methods that are one straight story and longer than the limit, with the reason.</summary>
    private static readonly Dictionary<string, string> LongMethods = new()
    {
        ["PackedAttentionKernel.Forward"] = "one tile of attention, from scores to results",
        ["PackedAttentionKernel.Backward"] = "one tile of attention's gradient, in the order of its formulas",
        ["PagedAttention.AttendChunk"] = "one chunk of keys: scores, softmax and values share its registers",
        ["Linear.Dots4"] = "sixteen dot products at once, one register each",
        ["CudaPagedAttention.CudaPagedAttention"] = "the kernels and the memory of attention, one after another",
        ["NcclTests.Each_trainer_rank_sends_the_slice_it_owns_to_all_workers_and_the_group_is_kept"] =
            "two updates in order",
        ["ServeTests.Train_uses_a_server_as_its_worker"] = "a server and a run, from start to end",
        ["PolicyModel.Update"] = "an optimizer step in the paper's order",
    };

    /// <summary>
    /// Methods whose parameters have the names and the order of a foreign interface or a paper's formula, with the reason.
    /// </summary>
    private static readonly Dictionary<string, string> ManyParameters = new()
    {
        ["src/SimpleR1.Tensors/Cpu/Layers/Linear.cs"] = "addresses, strides and sizes of a product's innermost loops",
        ["src/SimpleR1.Tensors/Cpu/Layers/SmallProduct.cs"] =
            "addresses, strides and sizes, in the order of BLAS's gemm",
        ["src/SimpleR1.Tensors/Cpu/Attention/PagedAttention.cs"] =
            "registers and addresses of attention's innermost loops",
        ["src/SimpleR1.Models/Checkpoints/NumberConversion.cs"] = "address and type of both sides, as a copy has them",
    };

    private static string Root => SharedData.RepositoryRoot;

    [Fact]
    public void Lines_are_at_most_140_characters()
    {
        string[] kinds = [".cs", ".cu", ".cuh", ".h", ".cpp", ".md", ".sh", ".py", ".yaml", ".targets"];
        var found = Files("")
            .Where(f => kinds.Contains(Path.GetExtension(f)))
            .SelectMany(f => StyleRules.LongLines(f, Read(f)));
        None(found.Select(v => v.ToString()));
    }

    [Fact]
    public void At_most_4_percent_of_the_lines_of_src_are_over_120_characters()
    {
        string[] lines =
        [
            .. Files("src")
                .Where(f => f.EndsWith(".cs", StringComparison.Ordinal))
                .SelectMany(f => Read(f).Split('\n')),
        ];
        double share = lines.Count(l => l.Length > StyleRules.LineAim) / (double)lines.Length;
        Assert.InRange(share, 0, 0.04);
    }

    [Fact]
    public void Code_follows_the_rules_of_sizes_parameters_and_statements()
    {
        var found = CSharp().SelectMany(f => StyleRules.CSharp(f, Read(f))).Where(v => !IsException(v));
        None(found.Select(v => v.ToString()));
    }

    [Fact]
    public void Namespaces_are_folders()
    {
        var wrong = CSharp()
            .Where(f => f.StartsWith("src/", StringComparison.Ordinal))
            .Select(f =>
                (
                    File: f,
                    Expected: Path.GetDirectoryName(f)!["src/".Length..].Replace('/', '.'),
                    Found: Namespace().Match(Read(f)).Groups[1].Value
                )
            )
            .Where(x => x.Found.Length > 0 && x.Found != x.Expected);
        None(wrong.Select(x => $"{x.File}: expected namespace {x.Expected}, found {x.Found}"));
    }

    [Fact]
    public void Folders_of_src_hold_at_most_14_files()
    {
        string[] code = [".cs", ".cu", ".cuh"];
        var full = Files("src")
            .Where(f => code.Contains(Path.GetExtension(f)))
            .CountBy(f => Path.GetDirectoryName(f)!)
            .Where(c => c.Value > 14);
        None(full.Select(c => $"{c.Key} holds {c.Value} files"));
    }

    [Fact]
    public void Words_are_those_of_the_glossary()
    {
        var found = new List<string>();
        foreach (
            string file in Files("")
                .Where(f => Path.GetExtension(f) is ".cs" or ".cu" or ".cuh" or ".md" or ".sh" or ".yaml")
        )
        {
            if (file.Contains("/Style/", StringComparison.Ordinal) || file is "CHANGELOG.md" or "CONTRIBUTING.md")
                continue;
            string[] lines = Read(file).Split('\n');
            for (int i = 0; i < lines.Length; i++)
            {
                foreach (Match word in ForeignWords().Matches(lines[i]))
                    found.Add($"{file}:{i + 1}: '{word.Value}'");
            }
        }
        None(found);
    }

    [Fact]
    public void Rules_find_what_they_look_for()
    {
        const string Code = """
            class A(int a, int b, int c, int d, int e, int f)
            {
                int F(bool x, bool y) => x ? 1 : y ? 2 : 3;
                void G(int g, int h) { (a, b) = (g, h); if (g is var z && z > 0) { a = 1; b = 2; } }
                void Swap() => (a, b) = (b, a);
            }
            """;
        string[] rules = [.. StyleRules.CSharp("a.cs", Code).Select(v => v.Rule).Order()];
        Assert.Equal(["is var", "many parameters", "nested conditional", "tuple assignment", "two statements"], rules);
        Assert.Single(StyleRules.LongLines("a.cs", new string('x', 141)));
        Assert.Empty(StyleRules.LongLines("a.cs", new string('x', 140)));
        Assert.Single(StyleRules.CSharp("a.cs", "// " + new string('x', 16_000)));
        Assert.Matches(ForeignWords(), "the engine stands still until somebody says so");
    }

    /// <summary>Fails with every line, not only with the first ones.</summary>
    private static void None(IEnumerable<string> violations)
    {
        string[] all = [.. violations];
        Assert.True(all.Length == 0, $"{all.Length} found:\n{string.Join("\n", all)}");
    }

    private static bool IsException(Violation v) =>
        v.Rule switch
        {
            "long file" => LongFiles.ContainsKey(v.File),
            "long method" => LongMethods.Keys.Any(name => v.Detail.StartsWith(name + " ", StringComparison.Ordinal)),
            "many parameters" => ManyParameters.ContainsKey($"{v.File}:{v.Line}") || ManyParameters.ContainsKey(v.File),
            _ => false,
        };

    private static string Read(string file) => File.ReadAllText(Path.Combine(Root, file));

    private static IEnumerable<string> CSharp() => Files("").Where(f => f.EndsWith(".cs", StringComparison.Ordinal));

    /// <summary>The repository's own files below a folder, as paths with slashes from the root.</summary>
    private static IEnumerable<string> Files(string folder)
    {
        string[] skipped = ["bin", "obj", "runs", "TestResults", "data", ".git", ".gpu"];
        return Directory
            .EnumerateFiles(Path.Combine(Root, folder), "*", SearchOption.AllDirectories)
            .Select(f => Path.GetRelativePath(Root, f))
            .Where(f => !f.Split('/').SkipLast(1).Any(skipped.Contains))
            .Order(StringComparer.Ordinal);
    }

    [GeneratedRegex(@"^namespace ([\w.]+);", RegexOptions.Multiline)]
    private static partial Regex Namespace();

    /// <summary>Phrases that read as translated; CONTRIBUTING.md has the plain word for each.</summary>
    [GeneratedRegex(
        @"\b(of (one's|its|their|his) own kind|one's own|nobody knows what|the way to it|says why|(is|are) told|goes? on at"
            + @"|on the way to|stands? still|stood (still|for)|br(oke|oken|eak|eaks) off|of then|whoever|vouched|nobody waits)\b",
        RegexOptions.IgnoreCase
    )]
    private static partial Regex ForeignWords();
}
