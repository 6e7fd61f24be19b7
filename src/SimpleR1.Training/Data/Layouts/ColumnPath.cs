using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using SimpleR1.Training.Data.Rows;

namespace SimpleR1.Training.Data.Layouts;

/// <summary>
/// Dotted names of nested values: <c>reward_model.ground_truth</c>, <c>prompt.0.content</c>. A name that really
/// contains a dot comes first. Text that is itself a JSON object or list is looked into.
/// </summary>
internal static class ColumnPath
{
    /// <summary>Whether the row has this name; its value may be null.</summary>
    public static bool TryGet(JsonNode? node, string path, out JsonNode? value)
    {
        node = Nested(node);
        if (Member(node, path, out value))
            return true;
        for (int dot = path.LastIndexOf('.'); dot > 0; dot = path.LastIndexOf('.', dot - 1))
            if (Member(node, path[..dot], out var child) && TryGet(child, path[(dot + 1)..], out value))
                return true;
        value = null;
        return false;
    }

    /// <summary>All names of a row, nested ones with dots; lists are not looked into.</summary>
    public static IEnumerable<string> Names(JsonObject row)
    {
        foreach (var (name, value) in row)
        {
            yield return name;
            if (Nested(value) is JsonObject nested)
                foreach (string below in Names(nested))
                    yield return $"{name}.{below}";
        }
    }

    private static bool Member(JsonNode? node, string name, out JsonNode? value)
    {
        value = null;
        if (node is JsonObject map)
            return map.TryGetPropertyValue(name, out value);
        if (node is not JsonArray list || !int.TryParse(name, NumberStyles.None, null, out int index))
            return false;
        if (index >= list.Count)
            return false;
        value = list[index];
        return true;
    }

    /// <summary>The object or list that a text holds as JSON, as columns of mixed types are often stored.</summary>
    public static JsonNode? Nested(JsonNode? node)
    {
        if (node is not JsonValue value || !value.TryGetValue(out string? text) || text is not ['{' or '[', ..])
            return node;
        try
        {
            return JsonText.Parse(System.Text.Encoding.UTF8.GetBytes(text));
        }
        catch (Exception e) when (e is JsonException or InvalidDataException)
        {
            return node;
        }
    }
}
