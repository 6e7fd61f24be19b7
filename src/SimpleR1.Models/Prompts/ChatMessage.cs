using System.Text.Json.Nodes;

namespace SimpleR1.Models.Prompts;

/// <summary>One message of a conversation.</summary>
/// <param name="Role"><c>system</c>, <c>user</c>, <c>assistant</c>, <c>tool</c>, or what else a template knows.</param>
/// <param name="Content">The text; empty for a message that has none.</param>
public sealed record ChatMessage(string Role, string Content)
{
    /// <summary>Further members that chat templates read, such as <c>tool_calls</c> or <c>reasoning_content</c>.</summary>
    public JsonObject? Other { get; init; }
}
