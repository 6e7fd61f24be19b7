using System.Text.Json.Nodes;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using SimpleR1.Models;
using SimpleR1.Training;
using Xunit;

namespace SimpleR1.Tests.Docs;

/// <summary>Recipes and examples that are there to be copied must work.</summary>
public sealed class ExampleTests
{
    private static string Root => SharedData.RepositoryRoot;

    public static TheoryData<string> Recipes => [.. Directory.EnumerateFiles(Path.Combine(Root, "recipes"), "*.yaml")
        .Concat(Directory.EnumerateFiles(Path.Combine(Root, "examples"), "*.yaml", SearchOption.AllDirectories)).Select(f => Path.GetRelativePath(Root, f)).Order(StringComparer.Ordinal)];

    public static TheoryData<string> Programs => [.. Directory.EnumerateFiles(Path.Combine(Root, "examples"), "*.cs").Select(f => Path.GetRelativePath(Root, f)).Order(StringComparer.Ordinal)];

    [Theory, MemberData(nameof(Recipes))]
    public void Recipe_is_valid_and_its_files_in_the_repository_exist(string path)
    {
        string full = Path.Combine(Root, path);
        if (File.ReadAllText(full).Contains("\noutput:", StringComparison.Ordinal))
        {
            var sft = RecipeFile.Load<SftRecipe>(full);
            Assert.True(File.Exists(Path.Combine(Root, sft.Model.Path ?? sft.Model.Shape!.Tokenizer, "tokenizer.json")));
            return;
        }
        var recipe = RecipeFile.Load<TrainRecipe>(full);
        if (recipe.Model.Path.StartsWith("recipes/", StringComparison.Ordinal)) Assert.True(File.Exists(Path.Combine(Root, recipe.Model.Path, "config.json")));
        PromptTemplate.Create(recipe.Model.Template, recipe.Model.System);
        RewardSet.Load([.. recipe.Rewards.Select(r => r.File is null ? r : r with { File = Path.Combine(Root, r.File) })]);
    }

    /// <summary>As the SDK compiles a program of one file: its #: lines are the build's, its usings the project's.</summary>
    [Theory, MemberData(nameof(Programs))]
    public void Program_compiles(string path)
    {
        var stop = TestContext.Current.CancellationToken;
        string source = string.Join('\n', File.ReadAllLines(Path.Combine(Root, path)).Select(line => line.StartsWith("#:", StringComparison.Ordinal) ? "" : line));
        string usings = string.Concat(new[] { "System", "System.Collections.Generic", "System.IO", "System.Linq", "System.Threading", "System.Threading.Tasks" }.Select(u => $"global using {u};\n"));
        var references = ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!).Split(Path.PathSeparator).Select(f => MetadataReference.CreateFromFile(f));
        var compilation = CSharpCompilation.Create("example", [CSharpSyntaxTree.ParseText(usings, cancellationToken: stop), CSharpSyntaxTree.ParseText(source, cancellationToken: stop)],
            references, new CSharpCompilationOptions(OutputKind.ConsoleApplication, nullableContextOptions: NullableContextOptions.Enable));
        Assert.Equal([], compilation.GetDiagnostics(stop).Where(d => d.Severity >= DiagnosticSeverity.Warning).Select(d => d.ToString()));
    }

    [Theory]
    [InlineData("12+30=42</think><answer>42</answer>", 1)]
    [InlineData("twelve and thirty are, when one adds them with care, 42</think><answer>42</answer>", 0.85)]
    [InlineData("12+30=41</think><answer>41</answer>", 0)]
    public void Brief_reward_pays_right_answers_by_their_length(string completion, double expected)
    {
        var reward = RewardFile.Compile(Path.Combine(Root, "examples", "my-reward", "MyRewards.cs")).ByName("Brief");
        Assert.Equal(expected, reward(new(new("12+30", "42", new Dictionary<string, JsonNode?>()), completion, false)), 1e-9);
    }
}
