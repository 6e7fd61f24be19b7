using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using SimpleR1.Inference;

namespace SimpleR1.Training.Rollouts;

/// <summary>
/// A rollout as a line of a file. A single turn is a prompt and its tokens; a longer conversation has its segments too.
/// </summary>
internal sealed record RolloutJson
{
    private static readonly JsonSerializerOptions Options = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower) },
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    public required int Group { get; init; }
    public required int Sample { get; init; }
    public required string Question { get; init; }
    public required string Gold { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Source { get; init; }
    public required string Text { get; init; }
    public required double Reward { get; init; }
    public required IReadOnlyDictionary<string, double> Rewards { get; init; }
    public required FinishReason FinishReason { get; init; }
    public required int[] PromptTokens { get; init; }
    public required int[] Tokens { get; init; }
    public required float[] LogProbs { get; init; }
    public required int[] WeightVersions { get; init; }
    public bool Correct { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)]
    public int TimedOut { get; init; }
    public int TotalTokens { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<SegmentJson>? Segments { get; init; }

    /// <summary>A segment; log-probs and versions are absent when its tokens were not sampled.</summary>
    internal sealed record SegmentJson
    {
        public required int[] Tokens { get; init; }

        [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
        public float[]? LogProbs { get; init; }

        [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
        public int[]? WeightVersions { get; init; }
    }

    public static string Write(Rollout r) =>
        JsonSerializer.Serialize(
            new RolloutJson
            {
                Group = r.Group,
                Sample = r.Sample,
                Question = r.Question,
                Gold = r.Gold,
                Source = r.Source.Length > 0 ? r.Source : null,
                Text = r.Text,
                Reward = r.Reward,
                Rewards = r.Rewards,
                FinishReason = r.FinishReason,
                PromptTokens = r.PromptTokens,
                Tokens = r.Tokens,
                LogProbs = r.LogProbs,
                WeightVersions = r.WeightVersions,
                Correct = r.Correct,
                TimedOut = r.TimedOut,
                TotalTokens = r.TotalTokens,
                Segments = IsSingleTurn(r) ? null : [.. r.Segments.Select(ToJson)],
            },
            Options
        );

    public static Rollout Read(string line)
    {
        var json =
            JsonSerializer.Deserialize<RolloutJson>(line, Options)
            ?? throw new JsonException("expected a rollout, found null");
        return new()
        {
            Group = json.Group,
            Sample = json.Sample,
            Question = json.Question,
            Gold = json.Gold,
            Source = json.Source ?? "",
            Text = json.Text,
            Reward = json.Reward,
            Rewards = json.Rewards,
            Correct = json.Correct,
            TimedOut = json.TimedOut,
            FinishReason = json.FinishReason,
            Segments = json.Segments is { } segments
                ? [.. segments.Select(s => new Segment(s.Tokens, s.LogProbs, s.WeightVersions))]
                : [Segment.Read(json.PromptTokens), new(json.Tokens, json.LogProbs, json.WeightVersions)],
        };
    }

    private static bool IsSingleTurn(Rollout r) =>
        r.Segments.Count == 2 && !r.Segments[0].IsSampled && r.Segments[1].IsSampled;

    private static SegmentJson ToJson(Segment segment) =>
        new()
        {
            Tokens = segment.Tokens,
            LogProbs = segment.LogProbs,
            WeightVersions = segment.WeightVersions,
        };
}
