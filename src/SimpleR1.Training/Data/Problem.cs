using System.Text.Json.Nodes;
using SimpleR1.Models.Prompts;

namespace SimpleR1.Training.Data;

/// <summary>A question with a gold answer.</summary>
/// <param name="Question">What the model is asked, without any template.</param>
/// <param name="Answer">
/// The gold answer as the file has it; for GSM8K what follows the last ####, without the space around it.
/// </param>
/// <param name="Fields">Every column of the row as it was read, for rewards that need more than the answer.</param>
public sealed record Problem(string Question, string Answer, IReadOnlyDictionary<string, JsonNode?> Fields)
{
    /// <summary>
    /// The question as a conversation, for rows whose prompt is a list of messages. <see cref="Question"/> is then the
    /// content of the last message of role user.
    /// </summary>
    public IReadOnlyList<ChatMessage>? Messages { get; init; }

    /// <summary>The messages, or the question as one.</summary>
    public IReadOnlyList<ChatMessage> Conversation => Messages ?? [new("user", Question)];

    /// <summary>File and place of the row, for messages; empty for a generated problem.</summary>
    public string Origin { get; init; } = "";

    /// <summary>Name of the source, as the recipe or its file calls it.</summary>
    public string Source { get; init; } = "";
}
