using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using SimpleR1.Training.Data.Rows;

namespace SimpleR1.Training.Data.Layouts;

/// <summary>Text from a row: of one column, or of a template around several.</summary>
internal static class RowText
{
    private static readonly UTF8Encoding StrictUtf8 = new(false, throwOnInvalidBytes: true);

    /// <summary>
    /// A column's value as the file has it: text unchanged, numbers digit by digit. Empty when it is null or missing.
    /// </summary>
    /// <param name="role">What the column is for: "a gold answer".</param>
    /// <exception cref="InvalidDataException">The value is a list, an object or binary.</exception>
    public static string Column(DataRow row, string column, string role)
    {
        ColumnPath.TryGet(row.Values, column, out var value);
        switch (value)
        {
            case null:
                return "";
            case JsonArray or JsonObject:
                throw new InvalidDataException(
                    $"{row.Origin}: column '{column}' holds {Kind(value)}, which can't be {role}. "
                        + $"Name a value in it with a dot, such as {column}.{Inside(value)}"
                );
        }
        var scalar = value.AsValue();
        if (scalar.TryGetValue(out byte[]? bytes))
            return Decode(bytes, row, column, role);
        return scalar.GetValueKind() == JsonValueKind.String ? scalar.GetValue<string>() : scalar.ToJsonString();
    }

    /// <summary>The columns that a template names in braces; {{ and }} are braces themselves.</summary>
    public static IReadOnlyList<string> Placeholders(string template)
    {
        var names = new List<string>();
        Fill(
            template,
            name =>
            {
                names.Add(name);
                return "";
            }
        );
        return names;
    }

    /// <summary>A template with the values of its columns; null when one of them is missing or null.</summary>
    public static string? Template(DataRow row, string template, string role)
    {
        bool isComplete = true;
        string text = Fill(
            template,
            name =>
            {
                isComplete &= ColumnPath.TryGet(row.Values, name, out var value) && value is not null;
                return Column(row, name, role);
            }
        );
        return isComplete ? text : null;
    }

    /// <summary>Replaces {name} by its value. A brace that is not closed, or closes nothing, is text.</summary>
    private static string Fill(string template, Func<string, string> value)
    {
        var text = new StringBuilder();
        for (int i = 0; i < template.Length; i++)
        {
            char c = template[i];
            int end = c == '{' ? template.AsSpan(i + 1).IndexOfAny('{', '}') : -1;
            if (c is '{' or '}' && i + 1 < template.Length && template[i + 1] == c)
            {
                text.Append(c);
                i++;
            }
            else if (end > 0 && template[i + 1 + end] == '}')
            {
                text.Append(value(template.Substring(i + 1, end)));
                i += end + 1;
            }
            else
                text.Append(c);
        }
        return text.ToString();
    }

    private static string Decode(byte[] bytes, DataRow row, string column, string role)
    {
        try
        {
            string text = StrictUtf8.GetString(bytes);
            if (!text.Contains('\0'))
                return text;
        }
        catch (DecoderFallbackException) { }
        throw new InvalidDataException(
            $"{row.Origin}: column '{column}' holds {bytes.Length} bytes that are not text, which can't be {role}"
        );
    }

    private static string Kind(JsonNode value) =>
        value is JsonArray list ? $"a list of {list.Count}" : $"an object with {string.Join(", ", Keys(value))}";

    private static string Inside(JsonNode value) => value is JsonArray ? "0" : Keys(value).FirstOrDefault("name");

    private static IEnumerable<string> Keys(JsonNode value) => ((JsonObject)value).Select(e => e.Key);
}
