using System.Text.Json.Nodes;

namespace SimpleR1.Models.Prompts;

/// <summary>One message of a conversation.</summary>
/// <param name="Role"><c>system</c>, <c>user</c>, <c>assistant</c>, <c>tool</c>, or what else a template knows.</param>
/// <param name="Content">The text; empty for a message that has none.</param>
public sealed record ChatMessage(string Role, string Content)
{
    /// <summary>Further members that chat templates read, such as <c>tool_calls</c> or <c>reasoning_content</c>.</summary>
    public JsonObject? Other { get; init; }

    /// <summary>The message as templates see it: role, content and the further members.</summary>
    internal JsonObject ToJson()
    {
        var message = new JsonObject { ["role"] = Role, ["content"] = Content };
        foreach (var (name, value) in Other ?? [])
            message[name] = value?.DeepClone();
        return message;
    }
}
