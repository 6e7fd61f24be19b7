using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using SimpleR1.Inference;
using SimpleR1.Models.Prompts;
using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Rewards;

namespace SimpleR1.Training.Runs.Fingerprints;

/// <summary>Fingerprints of what a recipe's files hold.</summary>
internal static class InputFingerprint
{
    public const string Problems = "problems";
    public const string Order = "order";
    public const string Template = "template";
    public const string Tokenizer = "tokenizer";
    public const string Seed = "seed";

    /// <summary>Draws that tell one order from another.</summary>
    private const int DrawsCompared = 10_000;

    /// <summary>What the answers of an evaluation follow from, except the weights.</summary>
    public static Fingerprint OfEvaluation(TrainRecipe recipe, ExperimentInput input)
    {
        var sampling = input.Requests.EvaluationSampling;
        var values = new Dictionary<string, string>
        {
            [Problems] = Describe(input.HeldOut),
            [Template] = Describe(input.Template),
            [Tokenizer] = Fingerprint.Hash(input.Tokenizer.Json),
            ["rewards"] = Describe(recipe.Rewards),
            ["samples"] = sampling.Samples.ToString(CultureInfo.InvariantCulture),
            ["max_new_tokens"] = sampling.MaxTokens.ToString(CultureInfo.InvariantCulture),
            ["sampling"] = Describe(sampling),
        };
        if (DataMix.Sets(recipe.Data.Evaluation ?? new()) is { Count: > 0 } sets)
            values["sets"] = string.Join(", ", sets.Select(s => $"{s} {input.HeldOut.Count(p => p.Source == s)}"));
        if (sampling.Temperature > 0)
            values[Seed] = recipe.Seed.ToString(CultureInfo.InvariantCulture);
        return new(values);
    }

    /// <summary>What a run's data are, and every key of its recipe.</summary>
    public static Fingerprint OfTraining(TrainRecipe recipe, ExperimentInput input) =>
        new([
            .. RecipeValues.Of(recipe),
            new(Problems, Describe(input.Problems)),
            new(Order, Fingerprint.Hash(Draws(recipe, input))),
            new(Template, Describe(input.Template)),
            new(Tokenizer, Fingerprint.Hash(input.Tokenizer.Json)),
            new("reward_versions", Describe(recipe.Rewards)),
        ]);

    /// <summary>The first draws: they follow from the seed, and from the shares of several sources.</summary>
    private static IEnumerable<string> Draws(TrainRecipe recipe, ExperimentInput input)
    {
        var order = DataMix.Order(recipe.Data.Train, input.Problems.Select(p => p.Source), recipe.Seed);
        int draws = (int)Math.Min(DrawsCompared, 2L * input.Problems.Count);
        return Enumerable.Range(0, draws).Select(place => order.At(place).ToString(CultureInfo.InvariantCulture));
    }

    /// <summary>Their number, and a hash of all that a model or a reward may read, in their order.</summary>
    private static string Describe(IReadOnlyList<Problem> problems) =>
        $"{problems.Count}, {Fingerprint.Hash(problems.SelectMany(Texts))}";

    private static IEnumerable<string> Texts(Problem problem)
    {
        yield return problem.Question;
        yield return problem.Answer;
        yield return problem.Messages is { } messages ? JsonSerializer.Serialize(messages) : "";
        foreach (var (name, value) in problem.Fields.OrderBy(f => f.Key, StringComparer.Ordinal))
        {
            yield return name;
            yield return value?.ToJsonString() ?? "null";
        }
    }

    private static string Describe(PromptTemplate template) =>
        $"{template.Name}, {Fingerprint.Hash([template.Text, template.Render("{question}")])}";

    /// <summary>Each reward with its options and its version: a built-in one's number, a hash of a custom one's file.</summary>
    private static string Describe(IEnumerable<RewardSection> rewards) => string.Join(", ", rewards.Select(Describe));

    private static string Describe(RewardSection reward)
    {
        string version = reward.File is { } path
            ? Fingerprint.Hash(File.ReadAllBytes(path))
            : BuiltInRewards.Version.ToString(CultureInfo.InvariantCulture);
        var options = RecipeValues.Of(reward).Where(v => v.Key is not ("file" or "concurrency") && v.Value != "null");
        return $"{{{string.Join(", ", options.Select(o => $"{o.Key}: {o.Value}"))}}} version {version}";
    }

    /// <summary>The parameters that are not at their defaults, of those that shape the distribution and its end.</summary>
    private static string Describe(SamplingParameters sampling)
    {
        var defaults = Json(new() { MaxTokens = 0 });
        var changed = Json(sampling with { Samples = 1, MaxTokens = 0, Seed = 0 })
            .Where(p => !JsonNode.DeepEquals(p.Value, defaults[p.Key]))
            .Select(p => $"{p.Key} {p.Value?.ToJsonString()}");
        return string.Join(", ", changed) is { Length: > 0 } text ? text : "the model's own distribution";
    }

    private static JsonObject Json(SamplingParameters sampling) =>
        JsonSerializer.SerializeToNode(sampling, SnakeCase)!.AsObject();

    private static readonly JsonSerializerOptions SnakeCase = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
    };
}
