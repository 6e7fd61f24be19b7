using System.Text.Json;
using System.Text.Json.Nodes;
using SimpleR1.Models.Prompts;

namespace SimpleR1.Server.Api;

/// <summary>A conversation and how it is rendered, as clients send them.</summary>
internal sealed record ChatFields(IReadOnlyList<ChatMessage>? Messages, ChatOptions Options)
{
    private static readonly string[] Roles = ["system", "developer", "user", "assistant", "tool"];

    public static ChatFields Read(JsonFields fields, string field)
    {
        if (!fields.Has(field))
            fields.Problem(field, "missing; expected a list of {role, content}");
        var messages = fields.Read(
            field,
            """a list of {role, content}, the content a text or a list of {"type": "text", "text": …}""",
            value => ReadMessages(fields, field, value)
        );

        // As vLLM has them. An answer that is continued has no new beginning.
        bool continues = fields.Flag("continue_final_message") ?? false;
        var options = new ChatOptions
        {
            ContinueFinalMessage = continues,
            AddGenerationPrompt = fields.Flag("add_generation_prompt") ?? !continues,
            Tools = fields.Read("tools", "a list of tools", ReadTools) is { Count: > 0 } tools ? tools : null,
            Variables = fields.Read("chat_template_kwargs", "an object", ReadObject) ?? [],
        };
        return new(messages, options);
    }

    private static JsonObject? ReadObject(JsonElement value) =>
        value.ValueKind == JsonValueKind.Object ? JsonObject.Create(value) : null;

    private static JsonArray? ReadTools(JsonElement value) =>
        value.ValueKind == JsonValueKind.Array && value.EnumerateArray().All(t => t.ValueKind == JsonValueKind.Object)
            ? JsonArray.Create(value)
            : null;

    private static ChatMessage[]? ReadMessages(JsonFields fields, string field, JsonElement value)
    {
        if (value.ValueKind != JsonValueKind.Array)
            return null;
        var messages = value.EnumerateArray().Select(ReadMessage).ToArray();
        if (messages.Any(m => m is null))
            return null;
        if (messages.FirstOrDefault(m => !Roles.Contains(m!.Role)) is { } unknown)
            fields.Problem(field, $"role '{Shown.Short(unknown.Role)}' is not one of {string.Join(", ", Roles)}");

        // OpenAI's newer models call the system "developer".
        return [.. messages.Select(m => m!.Role == "developer" ? m with { Role = "system" } : m)];
    }

    private static ChatMessage? ReadMessage(JsonElement message)
    {
        if (message.ValueKind != JsonValueKind.Object)
            return null;
        if (!message.TryGetProperty("role", out var role) || role.ValueKind != JsonValueKind.String)
            return null;
        bool hasContent = message.TryGetProperty("content", out var content) && content.ValueKind != JsonValueKind.Null;
        bool calls = message.TryGetProperty("tool_calls", out _);
        string? text = hasContent ? ReadContent(content) : null;
        if (text is null && (hasContent || !calls))
            return null;

        var other = JsonObject.Create(message)!;
        other.Remove("role");
        other.Remove("content");
        ParseArguments(other["tool_calls"] as JsonArray);
        return new(role.GetString()!, text ?? "") { Other = other };
    }

    /// <summary>A text, or the texts of a list of parts with a line break between them, as vLLM joins them.</summary>
    private static string? ReadContent(JsonElement content)
    {
        if (content.ValueKind == JsonValueKind.String)
            return content.GetString();
        if (content.ValueKind != JsonValueKind.Array || !content.EnumerateArray().All(IsText))
            return null;
        return string.Join('\n', content.EnumerateArray().Select(TextOf));
    }

    private static bool IsText(JsonElement part) =>
        part.ValueKind == JsonValueKind.String
        || part.ValueKind == JsonValueKind.Object
            && part.TryGetProperty("type", out var type)
            && type.ValueEquals("text")
            && part.TryGetProperty("text", out var text)
            && text.ValueKind == JsonValueKind.String;

    private static string TextOf(JsonElement part) =>
        (part.ValueKind == JsonValueKind.String ? part : part.GetProperty("text")).GetString()!;

    /// <summary>OpenAI's API has a call's arguments as JSON in a text; chat templates want the object.</summary>
    private static void ParseArguments(JsonArray? calls)
    {
        foreach (var function in (calls ?? []).Select(call => (call as JsonObject)?["function"]).OfType<JsonObject>())
            if (function["arguments"] is JsonValue value && value.TryGetValue(out string? json))
                try
                {
                    function["arguments"] = JsonNode.Parse(json);
                }
                catch (JsonException)
                {
                    // The template prints the text as it is.
                }
    }
}
