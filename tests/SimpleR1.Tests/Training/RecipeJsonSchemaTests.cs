using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Json.Schema;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Recipes.Yaml;
using Xunit;

namespace SimpleR1.Tests.Training;

/// <summary>The schema for editors: it is up to date, and takes what the program takes.</summary>
public sealed class RecipeJsonSchemaTests
{
    private const string SchemaComment = "# yaml-language-server: $schema=";

    private static readonly JsonSchema Schema = JsonSchema.FromText(RecipeJsonSchema.Text());

    public static TheoryData<string> Recipes => Docs.ExampleTests.Recipes;

    private static string In(string path) => Path.Combine(SharedData.RepositoryRoot, path);

    private static bool IsValid(string yaml)
    {
        var problems = new List<RecipeProblem>();
        var node = Json(RecipeReader.Read(yaml, mark => $"{mark.Line}", problems)!);
        Assert.Empty(problems);
        return Schema.Evaluate(JsonSerializer.SerializeToElement(node)).IsValid;
    }

    /// <summary>A recipe as an editor sees it: plain scalars have the types of YAML.</summary>
    private static JsonNode? Json(RecipeNode node) =>
        node switch
        {
            MapNode map => new JsonObject(map.Entries.Select(e => KeyValuePair.Create(e.Key, Json(e.Value)))),
            ListNode list => new JsonArray([.. list.Items.Select(Json)]),
            ScalarNode { Text: null } => null,
            ScalarNode { Quoted: true } text => text.Text,
            ScalarNode { Text: "true" or "false" } flag => flag.Text == "true",
            ScalarNode plain when long.TryParse(plain.Text, out long whole) => whole,
            ScalarNode plain
                when double.TryParse(plain.Text, NumberStyles.Float, CultureInfo.InvariantCulture, out double number) =>
                number,
            ScalarNode plain => plain.Text,
            _ => throw new NotSupportedException(),
        };

    [Fact]
    public void Schema_in_the_repository_is_what_the_code_generates()
    {
        string path = In("recipes/recipe.schema.json");
        if (Environment.GetEnvironmentVariable("SIMPLE_R1_WRITE_DOCS") == "1")
            RecipeJsonSchema.Write(path);
        Assert.True(
            File.Exists(path) && File.ReadAllText(path) == RecipeJsonSchema.Text(),
            $"{path} is out of date: run the tests once with SIMPLE_R1_WRITE_DOCS=1 and commit it"
        );
    }

    [Theory, MemberData(nameof(Recipes))]
    public void Recipe_is_valid_and_names_the_schema(string path)
    {
        string text = File.ReadAllText(In(path));
        Assert.True(IsValid(text));
        string comment = text.Split('\n').Single(line => line.StartsWith(SchemaComment, StringComparison.Ordinal));
        Assert.True(
            File.Exists(Path.Combine(Path.GetDirectoryName(In(path))!, comment[SchemaComment.Length..].Trim())),
            comment
        );
    }

    [Theory]
    [InlineData("", true)]
    [InlineData("workers: [vllm://a:1]", true)]
    [InlineData("rewards: random", true)]
    [InlineData("rewards: [format, {name: accuracy}]", true)]
    [InlineData("rewards: {name: accuracy}", false)]
    [InlineData("workers: {kv_cache_mib: 0}", true)]
    [InlineData("workers:", true)] // all below it is commented out
    [InlineData("model.system: 5", false)]
    [InlineData("trainin: {}", false)]
    [InlineData("training: {steps: many}", false)]
    [InlineData("training: {steps: 1.5}", false)]
    [InlineData("training: {steps: 0}", false)]
    [InlineData("algorithm: {loss_average: tokens}", false)]
    [InlineData("algorithm: {loss_average: constant-length}", true)]
    [InlineData("algorithm: {clip_low: 0}", false)]
    [InlineData("optimizer: {learning_rate: 1e-6}", true)]
    [InlineData("seed: -1", false)]
    [InlineData("output: x", false)] // an sft recipe then, without rewards
    public void Schema_takes_what_the_program_takes(string more, bool valid)
    {
        string rewards = more.StartsWith("rewards", StringComparison.Ordinal) ? "" : "rewards: [{name: accuracy}]\n";
        Assert.Equal(
            valid,
            IsValid($"name: a\nmodel: {{path: m}}\ndata: {{train: {{path: a.jsonl}}}}\n{rewards}{more}")
        );
    }

    /// <summary>A recipe that extends another needs no key, and takes keys back.</summary>
    [Theory]
    [InlineData("extends: base.yaml", true)]
    [InlineData(
        "extends: base.yaml\nname: b\ndata: {train: {path: , generator: arithmetic}}\ntraining: {steps: }",
        true
    )]
    [InlineData("extends: base.yaml\nrewards: [{name: accuracy}]\ndata: {train: [{path: a.jsonl}]}", true)]
    [InlineData("extends: base.yaml\noutput: x\nmodel: {shape: {heads: 4}}", true)]
    [InlineData("extends: base.yaml\nrewards: [{weight: 1}]", false)] // lists replace those of the base
    [InlineData("extends: base.yaml\ntraining: {stps: 5}", false)]
    [InlineData("extends: 5", false)]
    [InlineData("data: {train: {path: a.jsonl}}", false)]
    public void Schema_of_a_recipe_that_extends_another_takes_changes(string text, bool valid) =>
        Assert.Equal(valid, IsValid(text));
}
