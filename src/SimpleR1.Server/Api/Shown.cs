using System.Text.Json;

namespace SimpleR1.Server.Api;

/// <summary>What a client sent, shortened for an error message.</summary>
internal static class Shown
{
    private const int Longest = 60; // characters

    public static string Short(string text)
    {
        if (text.Length <= Longest)
            return text;
        // A cut must not split a surrogate pair.
        int cut = char.IsHighSurrogate(text[Longest - 1]) ? Longest - 1 : Longest;
        return text[..cut] + "…";
    }

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
