using System.Text.Json;
using System.Text.Json.Serialization;
using SimpleR1.Inference;

namespace SimpleR1.Training.Rollouts;

/// <summary>One sampled completion and what it earned: plain data, so that it can be dumped, read by people, and replayed into the trainer.</summary>
public sealed record Rollout
{
    /// <summary>Which prompt of the step; the samples with the same group are compared with each other.</summary>
    public required int Group { get; init; }
    public required int Sample { get; init; }
    public required string Question { get; init; }
    public required string Gold { get; init; }
    public required string Text { get; init; }
    public required double Reward { get; init; }

    /// <summary>Each reward's own value, before weights.</summary>
    public required IReadOnlyDictionary<string, double> Rewards { get; init; }
    public required FinishReason FinishReason { get; init; }
    public required int[] PromptTokens { get; init; }

    /// <summary>Generated ids, the ending id included.</summary>
    public required int[] Tokens { get; init; }

    /// <summary>log p of each generated token when it was sampled, by the inference engine.</summary>
    public required float[] LogProbs { get; init; }

    /// <summary>Version of the weights that made each token.</summary>
    public required int[] WeightVersions { get; init; }

    /// <summary>The answer solves the problem: full marks by the rewards that judge answers, or by all where none does.</summary>
    public bool Correct =>
        Rewards
            .Where(r => r.Key is "accuracy" or "countdown")
            .DefaultIfEmpty(new("all", Rewards.Count > 0 ? Rewards.Values.Min() : 0))
            .All(r => r.Value >= 1);
    public int TotalTokens => PromptTokens.Length + Tokens.Length;

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower) },
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>One line of JSON. Floats are written so that they read back bit for bit.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, Json);

    /// <exception cref="JsonException">The line is not a rollout.</exception>
    public static Rollout FromJson(string line) =>
        JsonSerializer.Deserialize<Rollout>(line, Json) ?? throw new JsonException("expected a rollout, found null");
}
