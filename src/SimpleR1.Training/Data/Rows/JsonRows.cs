using System.Text.Json;
using System.Text.Json.Nodes;

namespace SimpleR1.Training.Data.Rows;

/// <summary>Reads JSON Lines, and JSON documents that hold a list of rows.</summary>
internal static class JsonRows
{
    private const string RowExample = "{\"question\": ..., \"answer\": ...}";

    /// <summary>A file with a JSON object in each line.</summary>
    /// <exception cref="InvalidDataException">A line is not a JSON object.</exception>
    public static List<DataRow> ReadLines(string path) => Lines(path, TextFile.Read(path).Span);

    /// <summary>
    /// A file with an array of rows, or with an object that has one array of rows. Files called .json often hold JSON
    /// Lines; they are read too.
    /// </summary>
    /// <exception cref="InvalidDataException">The file is not JSON or holds no array of rows.</exception>
    public static List<DataRow> ReadDocument(string path)
    {
        var text = TextFile.Read(path).Span;
        JsonNode? document;
        try
        {
            document = JsonText.Parse(text, path);
        }
        catch (JsonException e)
        {
            if (IsLines(text))
                return Lines(path, text);
            throw new InvalidDataException($"{path}:{e.LineNumber + 1}: not valid JSON: {e.Message}", e);
        }

        var items = Items(document, path);
        var rows = new List<DataRow>(items.Count);
        foreach (var item in items)
            rows.Add(Row(path, $" row {rows.Count + 1}", item));
        return rows;
    }

    private static List<DataRow> Lines(string path, ReadOnlySpan<byte> text)
    {
        var rows = new List<DataRow>();
        int number = 0;
        foreach (var range in text.Split((byte)'\n'))
        {
            number++;
            var line = text[range].Trim(" \t\r"u8);
            if (line.IsEmpty)
                continue;
            try
            {
                rows.Add(Row(path, $":{number}", JsonText.Parse(line, $"{path}:{number}")));
            }
            catch (JsonException e)
            {
                throw new InvalidDataException(
                    $"{path}:{number}: not valid JSON: {e.Message} Found {JsonText.Excerpt(line)}",
                    e
                );
            }
        }
        return rows;
    }

    private static DataRow Row(string path, string place, JsonNode? value)
    {
        if (value is not JsonObject row)
            throw new InvalidDataException(
                $"{path}{place}: expected a JSON object such as {RowExample}, "
                    + $"found {JsonText.Excerpt(value?.ToJsonString() ?? "null")}"
            );
        JsonText.CheckUnicode(row, path + place);
        return new(path, place, row);
    }

    /// <summary>Whether the first line is a JSON object of its own.</summary>
    private static bool IsLines(ReadOnlySpan<byte> text)
    {
        var rest = text.TrimStart(" \t\r\n"u8);
        int end = rest.IndexOf((byte)'\n');
        try
        {
            return end > 0 && JsonText.Parse(rest[..end]) is JsonObject;
        }
        catch (JsonException)
        {
            return false;
        }
    }

    private static JsonArray Items(JsonNode? document, string path)
    {
        if (document is JsonArray items)
            return items;
        var lists = (document as JsonObject)?.Where(e => e.Value is JsonArray list && IsRows(list)).ToList() ?? [];
        if (lists is [var only])
            return (JsonArray)only.Value!;

        string found = (document, lists.Count) switch
        {
            (not JsonObject, _) => "found neither an array nor an object",
            (_, 0) => "found no array of objects in it; pandas writes one with orient=\"records\"",
            _ => "found several: " + string.Join(", ", lists.Select(l => $"'{l.Key}'")),
        };
        throw new InvalidDataException(
            $"{path}: expected an array of rows such as [{RowExample}], or an object with one such array; {found}"
        );
    }

    /// <summary>Whether a list holds rows; messages are part of one.</summary>
    private static bool IsRows(JsonArray list) =>
        list.Count > 0 && list.All(item => item is JsonObject map && !map.ContainsKey("role"));
}
