using System.Text.Encodings.Web;
using System.Text.Json;

namespace SimpleR1.Training.Rewards;

/// <summary>
/// A reward threw, returned no number or did not end in time. That is a bug in the reward; it stops the run, which
/// would otherwise train on it.
/// </summary>
public sealed class RewardException(string message, Exception? inner) : Exception(message, inner)
{
    private static readonly JsonSerializerOptions Options = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>Name of the reward.</summary>
    public string Reward { get; init; } = "";

    /// <summary>What the reward was called with: one completion, or a group's.</summary>
    public IReadOnlyList<RewardInput> Inputs { get; init; } = [];

    /// <summary>Keeps the prompts and completions in full, one JSON object a line, to try the reward on.</summary>
    /// <returns>This error, with the file's path in its message.</returns>
    public RewardException WithFile(string path)
    {
        File.WriteAllLines(
            path,
            Inputs.Select(input =>
                JsonSerializer.Serialize(
                    new
                    {
                        Reward,
                        input.Problem.Question,
                        Gold = input.Problem.Answer,
                        input.Completion,
                        input.Truncated,
                    },
                    Options
                )
            )
        );
        return new($"{Message}\n  in full: {path}", InnerException) { Reward = Reward, Inputs = Inputs };
    }
}
