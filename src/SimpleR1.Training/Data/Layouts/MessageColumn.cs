using System.Text.Json;
using System.Text.Json.Nodes;
using SimpleR1.Models.Prompts;
using SimpleR1.Training.Data.Rows;

namespace SimpleR1.Training.Data.Layouts;

/// <summary>
/// Columns that hold a conversation: a list of objects with role and content, or with ShareGPT's from and value; also as
/// text that is JSON of such a list.
/// </summary>
internal static class MessageColumn
{
    private static readonly Dictionary<string, string> ShareGptRoles = new()
    {
        ["human"] = "user",
        ["gpt"] = "assistant",
    };

    /// <summary>Whether a value looks like messages, in part at least.</summary>
    public static bool Holds(JsonNode? value) =>
        ColumnPath.Nested(value) is JsonArray { Count: > 0 } list
        && list.Any(m => m is JsonObject o && (o.ContainsKey("role") || o.ContainsKey("from")));

    /// <exception cref="InvalidDataException">
    /// A message has no role, or content that is not text; the message names row and column.
    /// </exception>
    public static List<ChatMessage> Read(DataRow row, string column)
    {
        ColumnPath.TryGet(row.Values, column, out var value);
        var messages = new List<ChatMessage>();
        foreach (var item in (JsonArray)ColumnPath.Nested(value)!)
        {
            string place = $"{row.Origin}: column '{column}', message {messages.Count + 1}";
            messages.Add(item is JsonObject message ? Message(message, place) : throw NotMessage(place, item));
        }
        return messages;
    }

    private static ChatMessage Message(JsonObject message, string place)
    {
        string contentKey = message.ContainsKey("role") ? "content" : "value";
        string roleKey = message.ContainsKey("role") ? "role" : "from";
        if (
            Text(message[roleKey]) is not { Length: > 0 } role
            || !message.TryGetPropertyValue(contentKey, out var content)
        )
            throw NotMessage(place, message);

        var other = message
            .Where(e => e.Key != roleKey && e.Key != contentKey && e.Value is not null)
            .Select(e => KeyValuePair.Create(e.Key, e.Value?.DeepClone()))
            .ToList();
        return new(ShareGptRoles.GetValueOrDefault(role, role), Content(content, place))
        {
            Other = other.Count > 0 ? new JsonObject(other) : null,
        };
    }

    /// <summary>Text, or parts of type text, each on lines of its own.</summary>
    private static string Content(JsonNode? content, string place)
    {
        if (content is null)
            return "";
        if (Text(content) is { } text)
            return text;
        if (content is not JsonArray parts)
            throw new InvalidDataException(
                $"{place}: the content should be text, found {JsonText.Excerpt(content.ToJsonString())}"
            );
        return string.Join('\n', parts.Select(part => Part(part, place)));
    }

    private static string Part(JsonNode? part, string place) =>
        part is JsonObject map && Text(map["type"]) is "text" && Text(map["text"]) is { } text
            ? text
            : throw new InvalidDataException(
                $"{place}: only parts of type text can be used, found {JsonText.Excerpt(part?.ToJsonString() ?? "null")}"
            );

    private static string? Text(JsonNode? value) =>
        value?.GetValueKind() == JsonValueKind.String && value.AsValue().TryGetValue(out string? text) ? text : null;

    private static InvalidDataException NotMessage(string place, JsonNode? found) =>
        new(
            $"{place}: expected a message such as {{\"role\": \"user\", \"content\": ...}}, "
                + $"found {JsonText.Excerpt(found?.ToJsonString() ?? "null")}"
        );
}
