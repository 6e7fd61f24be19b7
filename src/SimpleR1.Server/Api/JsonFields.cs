using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace SimpleR1.Server.Api;

/// <summary>How what a client sent is repeated to it: short.</summary>
internal static class Shown
{
    public static string Short(string text) =>
        text.Length <= 60 ? text : text[..(char.IsHighSurrogate(text[59]) ? 59 : 60)] + "…";

    public static string Kind(JsonElement e) =>
        e.ValueKind switch
        {
            JsonValueKind.Object => "an object",
            JsonValueKind.Array => "a list",
            JsonValueKind.String => $"the text '{Short(e.GetString()!)}'",
            JsonValueKind.Number => Short(e.GetRawText()),
            JsonValueKind.True => "true",
            JsonValueKind.False => "false",
            _ => "null",
        };
}

/// <summary>Reads an object's fields by name and type; null counts as absent. All problems are reported together, with those of unknown fields.</summary>
internal sealed class JsonFields(JsonElement root, string prefix = "")
{
    private readonly HashSet<string> known = [];
    private readonly List<(string Field, string Problem)> problems = [];

    public void Problem(string field, string problem) => problems.Add((prefix + field, problem));

    /// <summary>The field's value; undefined where it is absent or null.</summary>
    public JsonElement Value(string field)
    {
        known.Add(field);
        return root.TryGetProperty(field, out var value) && value.ValueKind != JsonValueKind.Null ? value : default;
    }

    public bool Has(string field) => Value(field).ValueKind != JsonValueKind.Undefined;

    public string? Text(string field) =>
        Read(field, "a text", e => e.ValueKind == JsonValueKind.String ? e.GetString() : null);

    public bool? Flag(string field) =>
        Read<bool?>(
            field,
            "true or false",
            e => e.ValueKind is JsonValueKind.True or JsonValueKind.False ? e.GetBoolean() : null
        );

    public long? Integer(string field, long least, long most) =>
        Read<long?>(
            field,
            $"a whole number from {least} to {most}",
            e =>
                e.ValueKind == JsonValueKind.Number && e.TryGetInt64(out long value) && value >= least && value <= most
                    ? value
                    : null
        );

    public double? Number(string field, double least, double most, bool above = false) =>
        Read<double?>(
            field,
            double.IsInfinity(most) || most == double.MaxValue
                ? $"a number {(above ? "above" : "from")} {least}{(above ? "" : " up")}"
                : $"a number {(above ? "above" : "from")} {least} {(above ? "up " : "")}to {most}",
            e =>
                e.ValueKind == JsonValueKind.Number
                && e.TryGetDouble(out double value)
                && (above ? value > least : value >= least)
                && value <= most
                    ? value
                    : null
        );

    /// <summary>A text, or a list of them.</summary>
    public IReadOnlyList<string> Texts(string field, int most, int longest)
    {
        string[]? Texts(JsonElement e)
        {
            if (e.ValueKind == JsonValueKind.String)
                return [e.GetString()!];
            return
                e.ValueKind == JsonValueKind.Array && e.EnumerateArray().All(t => t.ValueKind == JsonValueKind.String)
                ? [.. e.EnumerateArray().Select(t => t.GetString()!)]
                : null;
        }
        return Read(
                field,
                $"a text or a list of up to {most} texts, each of 1 to {longest} characters",
                e =>
                    Texts(e) is { } texts && texts.Length <= most && texts.All(t => t.Length > 0 && t.Length <= longest)
                        ? texts
                        : null
            ) ?? [];
    }

    public IReadOnlyList<int> TokenIds(string field, int vocabulary, int most) =>
        Read(
            field,
            $"a list of {(most < int.MaxValue ? $"up to {most} " : "")}token ids from 0 to {vocabulary - 1}",
            e => e.ValueKind == JsonValueKind.Array && e.GetArrayLength() <= most ? TokenIds(e, vocabulary) : null
        ) ?? [];

    /// <summary>Null where one is no id of the vocabulary.</summary>
    public static int[]? TokenIds(JsonElement list, int vocabulary)
    {
        int[] ids = new int[list.GetArrayLength()];
        int i = 0;
        foreach (var item in list.EnumerateArray())
            if (
                item.ValueKind != JsonValueKind.Number
                || !item.TryGetInt32(out ids[i])
                || (uint)ids[i++] >= (uint)vocabulary
            )
                return null;
        return ids;
    }

    public T? Read<T>(string field, string expected, Func<JsonElement, T?> read)
    {
        var value = Value(field);
        if (value.ValueKind == JsonValueKind.Undefined)
            return default;
        if (read(value) is { } found)
            return found;
        Problem(field, $"expected {expected}, found {Shown.Kind(value)}");
        return default;
    }

    /// <summary>Fields that change nothing about the answer.</summary>
    public void Ignore(params ReadOnlySpan<string> fields)
    {
        foreach (string field in fields)
            known.Add(field);
    }

    /// <summary>Something that is not supported, unless it asks for nothing.</summary>
    public void Refuse(string field, string why, Func<JsonElement, bool>? harmless = null)
    {
        var value = Value(field);
        if (value.ValueKind != JsonValueKind.Undefined && harmless?.Invoke(value) != true)
            Problem(field, why);
    }

    /// <exception cref="ApiException">400 with everything that is wrong.</exception>
    public void ThrowIfWrong()
    {
        foreach (var property in root.EnumerateObject())
            if (!known.Contains(property.Name) && problems.Count < 20)
                Problem(Shown.Short(property.Name), $"unknown field{Suggestion(property.Name)}");
        if (problems.Count == 0)
            return;
        throw new ApiException(
            StatusCodes.Status400BadRequest,
            string.Join("; ", problems.Take(20).Select(p => $"{p.Field}: {p.Problem}")),
            problems[0].Field
        );
    }

    private string Suggestion(string name) =>
        known.FirstOrDefault(k =>
            Math.Abs(k.Length - name.Length) <= 2
            && (
                k.StartsWith(name, StringComparison.OrdinalIgnoreCase)
                || name.StartsWith(k, StringComparison.OrdinalIgnoreCase)
                || k.Replace("_", "", StringComparison.Ordinal)
                    .Equals(name.Replace("_", "", StringComparison.Ordinal), StringComparison.OrdinalIgnoreCase)
            )
        )
            is { } near
            ? $"; did you mean {near}?"
            : "";
}
