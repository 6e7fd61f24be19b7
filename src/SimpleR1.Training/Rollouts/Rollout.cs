using System.Text.Json;
using SimpleR1.Inference;
using SimpleR1.Training.Rewards;

namespace SimpleR1.Training.Rollouts;

/// <summary>
/// One sample and what it earned: plain data, so that it can be dumped, read by people, and replayed into the trainer.
/// </summary>
public sealed record Rollout
{
    /// <summary>Index of the prompt in its step; samples of the same group are compared with each other.</summary>
    public required int Group { get; init; }
    public required int Sample { get; init; }
    public required string Question { get; init; }
    public required string Gold { get; init; }

    /// <summary>Name of the problem's source; empty in files that an older program wrote.</summary>
    public string Source { get; init; } = "";
    public required string Text { get; init; }
    public required double Reward { get; init; }

    /// <summary>Each reward's own value, before weights.</summary>
    public required IReadOnlyDictionary<string, double> Rewards { get; init; }

    /// <summary>True when the answer solves the problem; see <see cref="Score.Correct"/>.</summary>
    public bool Correct { get; init; }

    /// <summary>Rewards that did not end in time, and count as 0.</summary>
    public int TimedOut { get; init; }

    /// <summary>What rewards that see the whole group get; not written to files.</summary>
    internal RewardInput? Input { get; init; }
    public required FinishReason FinishReason { get; init; }

    /// <summary>True when the last completion was cut at its length limit.</summary>
    public bool IsTruncated => FinishReason == FinishReason.Length;

    /// <summary>
    /// The whole conversation in order, from the prompt. With a single turn: the prompt, and what the policy sampled.
    /// </summary>
    public required IReadOnlyList<Segment> Segments { get; init; }

    /// <summary>The first segment's ids.</summary>
    public int[] PromptTokens => Segments[0].Tokens;

    /// <summary>All sampled ids, the ending ids included.</summary>
    public int[] Tokens => Sampled(s => s.Tokens);

    /// <summary>log p of each sampled token when the inference engine sampled it.</summary>
    public float[] LogProbs => Sampled(s => s.LogProbs!);

    /// <summary>Version of the weights that made each sampled token.</summary>
    public int[] WeightVersions => Sampled(s => s.WeightVersions!);

    /// <summary>Ids of the whole conversation.</summary>
    public int TotalTokens => Segments.Sum(s => s.Tokens.Length);

    /// <summary>What it earned, as one value.</summary>
    internal Score Score => new(Reward, Rewards) { Correct = Correct, TimedOut = TimedOut };

    /// <summary>The same sample with another score.</summary>
    internal Rollout WithScore(Score score) =>
        this with
        {
            Reward = score.Total,
            Rewards = score.ByName,
            Correct = score.Correct,
            TimedOut = score.TimedOut,
        };

    /// <summary>The segments of a single turn.</summary>
    public static IReadOnlyList<Segment> SingleTurn(int[] prompt, Completion completion) =>
        [Segment.Read(prompt), new(completion.Tokens, completion.LogProbs, completion.WeightVersions)];

    /// <summary>One line of JSON. Floats are written so that they read back bit for bit.</summary>
    public string ToJson() => RolloutJson.Write(this);

    /// <exception cref="JsonException">The line is not a rollout.</exception>
    public static Rollout FromJson(string line) => RolloutJson.Read(line);

    private T[] Sampled<T>(Func<Segment, T[]> values)
    {
        var sampled = Segments.Where(s => s.IsSampled).ToArray();
        return sampled.Length == 1 ? values(sampled[0]) : [.. sampled.SelectMany(values)];
    }
}
