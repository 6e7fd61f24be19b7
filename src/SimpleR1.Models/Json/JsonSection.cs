using System.Text.Json;

namespace SimpleR1.Models.Json;

/// <summary>
/// An object of a file. Each key that is taken counts as read, and <see cref="RefuseUnread"/> names the others: an
/// option that nothing reads may not be ignored.
/// </summary>
internal sealed class JsonSection
{
    private const int LongestShown = 80;

    private readonly ModelFile file;
    private readonly IReadOnlyList<object> place;
    private readonly Dictionary<string, JsonElement> values = [];
    private readonly HashSet<string> unread = [];

    /// <param name="place">Keys and indexes from the file's root to this object.</param>
    public JsonSection(ModelFile file, JsonElement element, IReadOnlyList<object> place)
    {
        this.file = file;
        this.place = place;
        if (element.ValueKind != JsonValueKind.Object)
            throw Wrong(place, "an object", element);
        foreach (var property in element.EnumerateObject())
        {
            values[property.Name] = property.Value; // of equal keys the last one counts
            unread.Add(property.Name);
        }
    }

    public IEnumerable<string> Keys => values.Keys;

    /// <summary>Whether the key is there, and not null.</summary>
    public bool Has(string key) => Take(key).ValueKind is not (JsonValueKind.Null or JsonValueKind.Undefined);

    /// <summary>A value, which counts as read; <c>Undefined</c> where the key is absent.</summary>
    public JsonElement Take(string key)
    {
        unread.Remove(key);
        return values.GetValueOrDefault(key);
    }

    public string Text(string key) =>
        TextOrNull(key) ?? throw Problem(key, $"missing{(values.ContainsKey(key) ? " (null)" : "")}, expected a text");

    public string? TextOrNull(string key)
    {
        var value = Take(key);
        return value.ValueKind switch
        {
            JsonValueKind.Null or JsonValueKind.Undefined => null,
            JsonValueKind.String => TextOf(value, [.. place, key]),
            _ => throw Wrong([.. place, key], "a text", value),
        };
    }

    public bool Flag(string key, bool? otherwise = null)
    {
        var value = Take(key);
        return value.ValueKind switch
        {
            JsonValueKind.True => true,
            JsonValueKind.False => false,
            JsonValueKind.Null or JsonValueKind.Undefined => otherwise
                ?? throw Problem(key, "missing, expected true or false"),
            _ => throw Wrong([.. place, key], "true or false", value),
        };
    }

    public int? WholeOrNull(string key)
    {
        var value = Take(key);
        return value.ValueKind is JsonValueKind.Null or JsonValueKind.Undefined
            ? null
            : WholeOf(value, [.. place, key]);
    }

    public int Whole(string key, int? otherwise = null) =>
        WholeOrNull(key) ?? otherwise ?? throw Problem(key, "missing, expected a whole number");

    public double Number(string key, double? otherwise = null)
    {
        var value = Take(key);
        if (value.ValueKind is JsonValueKind.Null or JsonValueKind.Undefined)
            return otherwise ?? throw Problem(key, "missing, expected a number");
        bool isNumber = value.ValueKind == JsonValueKind.Number && double.IsFinite(value.GetDouble());
        return isNumber ? value.GetDouble() : throw Wrong([.. place, key], "a number", value);
    }

    /// <summary>An object; null where it is null or absent.</summary>
    public JsonSection? SectionOrNull(string key) =>
        Has(key) ? new JsonSection(file, values[key], [.. place, key]) : null;

    public JsonSection Section(string key) => SectionOrNull(key) ?? throw Problem(key, "missing, expected an object");

    /// <summary>A list of objects.</summary>
    public IReadOnlyList<JsonSection> Sections(string key) =>
        List(key, (value, itemPlace) => new JsonSection(file, value, itemPlace));

    public IReadOnlyList<int> WholeNumbers(string key) => List(key, WholeOf);

    /// <summary>A list; empty where it is null or absent.</summary>
    public IReadOnlyList<T> List<T>(string key, Func<JsonElement, IReadOnlyList<object>, T> item)
    {
        var list = Take(key);
        if (list.ValueKind is JsonValueKind.Null or JsonValueKind.Undefined)
            return [];
        if (list.ValueKind != JsonValueKind.Array)
            throw Wrong([.. place, key], "a list", list);
        return [.. list.EnumerateArray().Select((value, i) => item(value, [.. place, key, i]))];
    }

    public int WholeOf(JsonElement value, IReadOnlyList<object> valuePlace) =>
        value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int number)
            ? number
            : throw Wrong(valuePlace, "a whole number", value);

    public string TextOf(JsonElement value, IReadOnlyList<object> valuePlace)
    {
        try
        {
            return value.GetString() ?? throw Wrong(valuePlace, "a text", value);
        }
        catch (InvalidOperationException)
        {
            throw Wrong(valuePlace, "a text of whole characters", value);
        }
    }

    /// <exception cref="NotSupportedException">Some key was not read; all are named.</exception>
    public void RefuseUnread()
    {
        if (unread.Count == 0)
            return;
        var options = unread.Select(key => $"'{Name([.. place, key])}': {Shown(values[key])}");
        throw new NotSupportedException(
            $"{Where([.. place, unread.First()])}: unknown option, which may change the result: "
                + string.Join("; ", options)
        );
    }

    /// <summary>Keys that nothing has read, with line and value, for a message about several of them.</summary>
    public IEnumerable<string> Unread() =>
        unread.Select(key => $"'{Name([.. place, key])}': {Shown(values[key])} (unknown option){LineNote(key)}");

    /// <summary>A key's line, for a message about several of them.</summary>
    public string LineNote(string key)
    {
        int line = file.LineOf([.. place, key]);
        return line > 0 ? $" (line {line})" : "";
    }

    /// <summary>What is wrong at a key, with file and line.</summary>
    public InvalidDataException Problem(string key, string problem) =>
        new($"{Where([.. place, key])}: '{Name([.. place, key])}': {problem}");

    /// <summary>What is not supported at a key, with file and line.</summary>
    public NotSupportedException Unsupported(string key, string problem) =>
        new($"{Where([.. place, key])}: '{Name([.. place, key])}': {problem}");

    public InvalidDataException Wrong(IReadOnlyList<object> wrongPlace, string expected, JsonElement found) =>
        new($"{Where(wrongPlace)}: '{Name(wrongPlace)}': expected {expected}, found {Shown(found)}");

    private string Where(IReadOnlyList<object> valuePlace)
    {
        // A value that is missing has the line of what it is missing in.
        int line = file.LineOf(valuePlace);
        if (line == 0 && valuePlace.Count > 0)
            line = file.LineOf([.. valuePlace.SkipLast(1)]);
        return line > 0 ? $"{file.Path}:{line}" : file.Path;
    }

    private static string Name(IReadOnlyList<object> valuePlace)
    {
        string name = string.Concat(valuePlace.Select(step => step is string key ? "." + key : $"[{step}]"));
        return name.Length == 0 ? "the file" : name.TrimStart('.');
    }

    private static string Shown(JsonElement value)
    {
        string text = value.ValueKind == JsonValueKind.Undefined ? "nothing" : value.GetRawText();
        return text.Length <= LongestShown ? text : text[..LongestShown] + "…";
    }
}
