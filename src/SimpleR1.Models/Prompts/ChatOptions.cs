using System.Text.Json.Nodes;

namespace SimpleR1.Models.Prompts;

/// <summary>How one conversation is rendered.</summary>
public sealed record ChatOptions
{
    /// <summary>Ends with the beginning of the assistant's next message.</summary>
    public bool AddGenerationPrompt { get; init; } = true;

    /// <summary>Ends inside the last message, so that the model continues it.</summary>
    public bool ContinueFinalMessage { get; init; }

    /// <summary>JSON schemas of functions that the model may call.</summary>
    public JsonArray? Tools { get; init; }

    /// <summary>Variables of this conversation; they win over the template's.</summary>
    public JsonObject Variables { get; init; } = [];
}
