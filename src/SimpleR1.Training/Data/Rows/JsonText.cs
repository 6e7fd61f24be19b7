using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace SimpleR1.Training.Data.Rows;

/// <summary>JSON text → values that can all be used: no key comes twice, all text is Unicode.</summary>
internal static class JsonText
{
    private static readonly JsonDocumentOptions Strict = new() { AllowDuplicateProperties = false, MaxDepth = 128 };

    /// <summary>
    /// Parses one value. NaN and Infinity, which JSON does not have but Python writes, become null; so they do in every
    /// format.
    /// </summary>
    /// <param name="origin">File and place, for messages.</param>
    /// <exception cref="JsonException">The text is not JSON, or an object has a key twice.</exception>
    /// <exception cref="InvalidDataException">A name has half of a surrogate pair.</exception>
    public static JsonNode? Parse(ReadOnlySpan<byte> text, string origin = "")
    {
        try
        {
            return JsonNode.Parse(text, documentOptions: Strict);
        }
        catch (InvalidOperationException) // a name with \ud800, which can't be compared with others
        {
            throw NotUnicode(origin, "a name");
        }
        catch (JsonException) when (WithoutNonFinite(text) is { } finite)
        {
            return JsonNode.Parse(finite, documentOptions: Strict);
        }
    }

    /// <summary>A number with this text.</summary>
    public static JsonNode Number(string text) => JsonValue.Create(JsonElement.Parse(text))!;

    /// <exception cref="InvalidDataException">A text has half of a surrogate pair, which is not Unicode.</exception>
    public static void CheckUnicode(JsonNode? value, string origin, string column = "")
    {
        try
        {
            if (value is JsonObject map)
                foreach (var (key, item) in map)
                    CheckUnicode(item, origin, column == "" ? key : $"{column}.{key}");
            else if (value is JsonArray list)
                for (int i = 0; i < list.Count; i++)
                    CheckUnicode(list[i], origin, $"{column}.{i}");
            else if (value?.GetValueKind() == JsonValueKind.String)
                _ = value.GetValue<string>();
        }
        catch (InvalidOperationException) // what System.Text.Json throws for \ud800 without its other half
        {
            throw NotUnicode(origin, column == "" ? "a name" : $"column '{column}'");
        }
    }

    private static InvalidDataException NotUnicode(string origin, string place) =>
        new(
            $"{origin}: {place} has half of a surrogate pair, such as \\ud800 alone: that is not Unicode text. "
                + "Remove it, or write the whole character"
        );

    /// <summary>The text with null for NaN, Infinity and -Infinity outside of strings; null when it has none.</summary>
    private static byte[]? WithoutNonFinite(ReadOnlySpan<byte> text)
    {
        var finite = new List<byte>(text.Length);
        bool isChanged = false;
        bool isInString = false;
        for (int i = 0; i < text.Length; i++)
        {
            int length = isInString ? 0 : NonFiniteLength(text[i..]);
            if (length > 0)
            {
                finite.AddRange("null"u8);
                i += length - 1;
                isChanged = true;
                continue;
            }
            if (isInString && text[i] == '\\' && i + 1 < text.Length)
                finite.Add(text[i++]);
            else if (text[i] == '"')
                isInString = !isInString;
            finite.Add(text[i]);
        }
        return isChanged ? [.. finite] : null;
    }

    private static int NonFiniteLength(ReadOnlySpan<byte> text)
    {
        if (text.StartsWith("NaN"u8))
            return 3;
        if (text.StartsWith("-Infinity"u8))
            return 9;
        return text.StartsWith("Infinity"u8) ? 8 : 0;
    }

    /// <summary>The beginning of a text, for messages.</summary>
    public static string Excerpt(ReadOnlySpan<byte> text) =>
        Excerpt(Encoding.UTF8.GetString(text[..Math.Min(text.Length, 400)]));

    /// <inheritdoc cref="Excerpt(ReadOnlySpan{byte})"/>
    public static string Excerpt(string text) => text.Length <= 80 ? text : text[..80] + "…";
}
