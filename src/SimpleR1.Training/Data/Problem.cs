using System.Text.Json.Nodes;
using SimpleR1.Models.Prompts;

namespace SimpleR1.Training.Data;

/// <summary>A question with a gold answer.</summary>
/// <param name="Question">What the model is asked, without any template.</param>
/// <param name="Answer">The gold answer; for GSM8K only what follows the last ####, commas removed.</param>
/// <param name="Fields">Every column of the row as it was read, for rewards that need more than the answer.</param>
public sealed record Problem(string Question, string Answer, IReadOnlyDictionary<string, JsonNode?> Fields)
{
    /// <summary>
    /// The question as a conversation, for rows whose prompt is a list of messages. <see cref="Question"/> is then the
    /// content of the last message of role user.
    /// </summary>
    public IReadOnlyList<ChatMessage>? Messages { get; init; }
}
