using System.Text.Json.Nodes;

namespace SimpleR1.Models.Prompts;

/// <summary>What a prompt template is made from besides its name or text.</summary>
public sealed record PromptOptions
{
    /// <summary>The model's folder; the template <c>chat</c> and the texts of special tokens are read from it.</summary>
    public string? Folder { get; init; }

    /// <summary>The system message of conversations that begin with none; null leaves it to the template.</summary>
    public string? System { get; init; }

    /// <summary>Variables of the template, such as <c>enable_thinking</c>.</summary>
    public JsonObject Variables { get; init; } = [];
}
