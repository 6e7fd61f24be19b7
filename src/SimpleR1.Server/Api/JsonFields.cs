using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace SimpleR1.Server.Api;

/// <summary>
/// Reads an object's fields by name and type; null counts as absent. All problems are reported together, unknown fields
/// among them.
/// </summary>
internal sealed class JsonFields(JsonElement root, string prefix = "")
{
    private const int MostProblems = 20;

    private readonly HashSet<string> known = [];
    private readonly List<(string Field, string Problem)> problems = [];

    /// <summary>Notes that a field is wrong.</summary>
    public void Problem(string field, string problem) => problems.Add((prefix + field, problem));

    /// <summary>The field's value; undefined if it is absent or null.</summary>
    public JsonElement Value(string field)
    {
        known.Add(field);
        return root.TryGetProperty(field, out var value) && value.ValueKind != JsonValueKind.Null ? value : default;
    }

    public bool Has(string field) => Value(field).ValueKind != JsonValueKind.Undefined;

    public string? Text(string field) =>
        Read(field, "a text", e => e.ValueKind == JsonValueKind.String ? e.GetString() : null);

    public bool? Flag(string field)
    {
        static bool? Parse(JsonElement e) =>
            e.ValueKind is JsonValueKind.True or JsonValueKind.False ? e.GetBoolean() : null;
        return Read(field, "true or false", Parse);
    }

    public long? Integer(string field, long least, long most)
    {
        long? Parse(JsonElement e)
        {
            bool whole = e.ValueKind == JsonValueKind.Number && e.TryGetInt64(out _);
            return whole && e.GetInt64() >= least && e.GetInt64() <= most ? e.GetInt64() : null;
        }
        return Read(field, $"a whole number from {least} to {most}", Parse);
    }

    /// <param name="above">The value must be more than <paramref name="least"/>, not equal to it.</param>
    public double? Number(string field, double least, double most, bool above = false)
    {
        double? Parse(JsonElement e)
        {
            if (e.ValueKind != JsonValueKind.Number || !e.TryGetDouble(out double value))
                return null;
            bool enough = above ? value > least : value >= least;
            return enough && value <= most ? value : null;
        }
        string range = above ? $"above {least} up to {most}" : $"from {least} to {most}";
        return Read(field, $"a number {range}", Parse);
    }

    /// <summary>A text, or a list of texts.</summary>
    public IReadOnlyList<string> Texts(string field, int most, int longest)
    {
        string[]? Parse(JsonElement e)
        {
            string[]? texts = OneOrMore(e);
            bool fits = texts?.Length <= most && texts.All(t => t.Length > 0 && t.Length <= longest);
            return fits ? texts : null;
        }
        static string[]? OneOrMore(JsonElement e)
        {
            if (e.ValueKind == JsonValueKind.String)
                return [e.GetString()!];
            bool texts =
                e.ValueKind == JsonValueKind.Array && e.EnumerateArray().All(t => t.ValueKind == JsonValueKind.String);
            return texts ? [.. e.EnumerateArray().Select(t => t.GetString()!)] : null;
        }
        string expected = $"a text or a list of up to {most} texts, each of 1 to {longest} characters";
        return Read(field, expected, Parse) ?? [];
    }

    public IReadOnlyList<int> TokenIds(string field, int vocabulary, int most)
    {
        int[]? Parse(JsonElement e) =>
            e.ValueKind == JsonValueKind.Array && e.GetArrayLength() <= most ? TokenIds(e, vocabulary) : null;
        string limit = most < int.MaxValue ? $"up to {most} " : "";
        return Read(field, $"a list of {limit}token ids from 0 to {vocabulary - 1}", Parse) ?? [];
    }

    /// <summary>The ids of a list; null if an element is not an id of the vocabulary.</summary>
    public static int[]? TokenIds(JsonElement list, int vocabulary)
    {
        int[] ids = new int[list.GetArrayLength()];
        int i = 0;
        foreach (var item in list.EnumerateArray())
        {
            if (item.ValueKind != JsonValueKind.Number || !item.TryGetInt32(out int id))
                return null;
            if ((uint)id >= (uint)vocabulary)
                return null;
            ids[i++] = id;
        }
        return ids;
    }

    /// <summary>Reads a field by a function that returns null for a wrong value.</summary>
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

    /// <summary>Accepts fields that change nothing about the answer.</summary>
    public void Ignore(params ReadOnlySpan<string> fields)
    {
        foreach (string field in fields)
            known.Add(field);
    }

    /// <summary>Refuses a field that is not supported, unless its value asks for nothing.</summary>
    public void Refuse(string field, string problem, Func<JsonElement, bool>? harmless = null)
    {
        var value = Value(field);
        if (value.ValueKind != JsonValueKind.Undefined && harmless?.Invoke(value) != true)
            Problem(field, problem);
    }

    /// <exception cref="ApiException">A field is wrong (400); the message has all problems.</exception>
    public void ThrowIfWrong()
    {
        foreach (var property in root.EnumerateObject())
            if (!known.Contains(property.Name) && problems.Count < MostProblems)
                Problem(Shown.Short(property.Name), $"unknown field{Suggestion(property.Name)}");
        if (problems.Count == 0)
            return;

        throw new ApiException(
            StatusCodes.Status400BadRequest,
            string.Join("; ", problems.Take(MostProblems).Select(p => $"{p.Field}: {p.Problem}")),
            problems[0].Field
        );
    }

    private string Suggestion(string name)
    {
        string? near = known.FirstOrDefault(k => Math.Abs(k.Length - name.Length) <= 2 && Resembles(k, name));
        return near is null ? "" : $"; did you mean {near}?";
    }

    /// <summary>One name begins with the other, or they differ only in case and underscores.</summary>
    private static bool Resembles(string field, string name)
    {
        const StringComparison anyCase = StringComparison.OrdinalIgnoreCase;
        static string Letters(string text) => text.Replace("_", "", StringComparison.Ordinal);
        return field.StartsWith(name, anyCase)
            || name.StartsWith(field, anyCase)
            || Letters(field).Equals(Letters(name), anyCase);
    }
}
