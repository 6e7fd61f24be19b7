using System.Reflection;
using System.Text.Json.Nodes;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Prompts;
using SimpleR1.Training.Algorithms;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Rollouts;
using Xunit;

namespace SimpleR1.Tests.Docs;

/// <summary>Recipes and examples that are there to be copied must work.</summary>
public sealed class ExampleTests
{
    private static string Root => SharedData.RepositoryRoot;

    public static TheoryData<string> Recipes =>
        [
            .. Directory
                .EnumerateFiles(Path.Combine(Root, "recipes"), "*.yaml")
                .Concat(Directory.EnumerateFiles(Path.Combine(Root, "examples"), "*.yaml", SearchOption.AllDirectories))
                .Select(f => Path.GetRelativePath(Root, f))
                .Order(StringComparer.Ordinal),
        ];

    public static TheoryData<string> Programs =>
        [
            .. Directory
                .EnumerateFiles(Path.Combine(Root, "examples"), "*.cs")
                .Select(f => Path.GetRelativePath(Root, f))
                .Order(StringComparer.Ordinal),
        ];

    [Theory, MemberData(nameof(Recipes))]
    public void Recipe_is_valid_and_its_files_in_the_repository_exist(string path)
    {
        string full = Path.Combine(Root, path);
        if (File.ReadAllText(full).Contains("\noutput:", StringComparison.Ordinal))
        {
            var sft = RecipeFile.Load<SftRecipe>(full);
            Assert.True(
                File.Exists(Path.Combine(Root, sft.Model.Path ?? sft.Model.Shape!.Tokenizer, "tokenizer.json"))
            );
            return;
        }
        var recipe = RecipeFile.Load<TrainRecipe>(full);
        if (recipe.Model.Path.StartsWith("recipes/", StringComparison.Ordinal))
            Assert.True(File.Exists(Path.Combine(Root, recipe.Model.Path, "config.json")));
        PromptTemplate.Create(
            recipe.Model.Template,
            new() { Folder = recipe.Model.Path, System = recipe.Model.System }
        );
        RewardSet.Load([
            .. recipe.Rewards.Select(r => r.File is null ? r : r with { File = Path.Combine(Root, r.File) }),
        ]);
    }

    [Theory, MemberData(nameof(Programs))]
    public void Program_compiles_without_a_warning(string path) =>
        Assert.Equal(
            [],
            Compile(path)
                .GetDiagnostics(TestContext.Current.CancellationToken)
                .Where(d => d.Severity >= DiagnosticSeverity.Warning)
                .Select(d => d.ToString())
        );

    [Fact]
    public void Algorithm_of_the_example_compares_each_sample_with_the_others_and_takes_effect_when_set()
    {
        using var image = new MemoryStream();
        Assert.True(
            Compile("examples/my-algorithm.cs")
                .Emit(image, cancellationToken: TestContext.Current.CancellationToken)
                .Success
        );
        var rloo = (Algorithm)
            Assembly
                .Load(image.ToArray())
                .GetType("Rloo", throwOnError: true)!
                .GetMethod("Create")!
                .Invoke(null, [2.0])!;
        var config = TinyModels.Config();
        Rollout[] group =
        [
            .. new[] { 1.0, 0, 0.5 }.Select(
                (reward, i) =>
                    new Rollout
                    {
                        Group = 0,
                        Sample = i,
                        Question = "",
                        Gold = "",
                        Text = "",
                        Reward = reward,
                        Rewards = new Dictionary<string, double>(),
                        FinishReason = FinishReason.Stop,
                        Segments = [Segment.Read([1, 2]), new([3 + i, 4, 5], [-1, -1, -1], [0, 0, 0])],
                    }
            ),
        ];
        Assert.Equal([0.75f, -0.75f, 0], rloo.Advantages(group).Select(Assert.Single));

        using var weights = TinyModels.Random(config);
        using var policy = new PolicyModel(new Decoder(weights), new Optimizer(weights, new()), new(64));
        var trainer = new PolicyGradient(policy, Grpo.Create(), new() { Temperature = 1, MaxNewTokens = 3 }, null);
        Assert.Contains("clip_fraction", Assert.Single(trainer.Update(group, 0, 0)).Report.Keys);
        trainer.Algorithm = rloo;
        var update = Assert.Single(trainer.Update(group, 0, 0));
        Assert.Equal(["capped", "engine_difference"], update.Report.Keys); // every algorithm has the second
        Assert.True(update.GradientNorm > 0);
    }

    /// <summary>As the SDK compiles a program of one file: its #: lines are the build's, its usings the project's.</summary>
    private static CSharpCompilation Compile(string path)
    {
        string source = string.Join(
            '\n',
            File.ReadAllLines(Path.Combine(Root, path))
                .Select(line => line.StartsWith("#:", StringComparison.Ordinal) ? "" : line)
        );
        string usings = string.Concat(
            new[]
            {
                "System",
                "System.Collections.Generic",
                "System.IO",
                "System.Linq",
                "System.Threading",
                "System.Threading.Tasks",
            }.Select(u => $"global using {u};\n")
        );
        var references = ((string)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES")!)
            .Split(Path.PathSeparator)
            .Select(f => MetadataReference.CreateFromFile(f));
        return CSharpCompilation.Create(
            Path.GetFileNameWithoutExtension(path),
            [CSharpSyntaxTree.ParseText(usings), CSharpSyntaxTree.ParseText(source)],
            references,
            new CSharpCompilationOptions(
                OutputKind.ConsoleApplication,
                nullableContextOptions: NullableContextOptions.Enable
            )
        );
    }

    [Theory]
    [InlineData("12+30=42</think><answer>42</answer>", 1)]
    [InlineData("twelve and thirty are, when one adds them with care, 42</think><answer>42</answer>", 0.85)]
    [InlineData("12+30=41</think><answer>41</answer>", 0)]
    public async Task Brief_reward_pays_right_answers_by_their_length(string completion, double expected)
    {
        var score = await Example("Brief").ScoreAsync(Input(completion), TestContext.Current.CancellationToken);
        Assert.Equal(expected, score.Total, 1e-9);
    }

    [Fact]
    public async Task Majority_and_tested_rewards_see_the_group_and_wait()
    {
        var stop = TestContext.Current.CancellationToken;
        RewardInput[] group = [.. new[] { "42", "41", "42" }.Select(a => Input($"<answer>{a}</answer>"))];
        var tested = Example("Tested");
        Score[] scores = [.. await Task.WhenAll(group.Select(i => tested.ScoreAsync(i, stop).AsTask()))];
        Assert.Equal([1.0, 0, 1], scores.Select(s => s.Total));
        var majority = await Example("Majority").ScoreGroupAsync(group, scores, stop);
        Assert.Equal([1.0, 0, 1], majority.Select(s => s.ByName["Majority"]));
    }

    private static RewardInput Input(string completion) =>
        new(new("12+30", "42", new Dictionary<string, JsonNode?>()), completion, false);

    private static RewardSet Example(string name) =>
        RewardSet.Load([new() { Name = name, File = Path.Combine(Root, "examples", "my-reward", "MyRewards.cs") }]);
}
