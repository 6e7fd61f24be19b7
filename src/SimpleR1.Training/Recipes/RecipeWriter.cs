using System.Collections;
using System.Globalization;
using System.Text;

namespace SimpleR1.Training.Recipes;

/// <summary>Records → YAML.</summary>
internal static class RecipeWriter
{
    /// <summary>Appends one "key: value" line a property, nested sections indented by two spaces.</summary>
    public static void Section(StringBuilder text, object section, int depth)
    {
        foreach (var key in RecipeKey.Of(section.GetType()))
        {
            text.Append(' ', 2 * depth).Append(key.Name).Append(':');
            object? value = key.Property.GetValue(section);
            if (value is not null && RecipeKey.BareList(key.Type) is { } only && IsBare(value, only))
                Items(text, only.Type, (IEnumerable)only.Property.GetValue(value)!, depth);
            else if (value is not null && RecipeKey.IsSection(key.Type))
            {
                text.Append('\n');
                Section(text, value, depth + 1);
            }
            else if (value is IEnumerable list and not string)
                Items(text, key.Type, list, depth);
            else
                text.Append(' ').Append(Scalar(value)).Append('\n');
        }
    }

    private static void Items(StringBuilder text, Type type, IEnumerable items, int depth)
    {
        if (RecipeKey.IsSection(RecipeKey.Element(type)!))
            Sections(text, items, depth);
        else
            text.Append(' ').Append(List(items)).Append('\n');
    }

    /// <summary>Whether a section's list is all that differs from its defaults: the rest then has nothing to say.</summary>
    private static bool IsBare(object section, RecipeKey list)
    {
        object? items = list.Property.GetValue(section);
        object rest = RecipeBinder.Empty(section.GetType());
        if (Equals(items, list.Property.GetValue(rest)))
            return false;
        list.Property.SetValue(rest, items);
        return rest.Equals(section);
    }

    private static string List(IEnumerable values) => $"[{string.Join(", ", values.Cast<object>().Select(Scalar))}]";

    private static void Sections(StringBuilder text, IEnumerable sections, int depth)
    {
        int before = text.Length;
        foreach (object section in sections)
        {
            if (text.Length == before)
                text.Append('\n');
            int start = text.Length;
            Section(text, section, depth + 1);
            text[start + 2 * depth] = '-'; // the first key's own indentation becomes "- "
        }
        if (text.Length == before)
            text.Append(" []\n");
    }

    /// <summary>A value as YAML; text in double quotes unless it is plainly a word or a path.</summary>
    internal static string Scalar(object? value) =>
        value switch
        {
            null => "null",
            bool flag => flag ? "true" : "false",
            double number => number.ToString("R", CultureInfo.InvariantCulture),
            Enum choice => RecipeNames.Value(choice),
            string words => IsPlain(words) ? words : Quoted(words),
            _ => Convert.ToString(value, CultureInfo.InvariantCulture)!,
        };

    private static bool IsPlain(string text) =>
        text.Length > 0
        && char.IsAsciiLetter(text[0])
        && text.All(c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-' or '.' or '/')
        && text.ToLowerInvariant() is not ("null" or "true" or "false" or "yes" or "no" or "on" or "off" or "y" or "n");

    private static string Quoted(string text)
    {
        var quoted = new StringBuilder("\"");
        foreach (var rune in text.EnumerateRunes())
            _ = rune.Value switch
            {
                '"' or '\\' => quoted.Append('\\').Append(rune),
                '\n' => quoted.Append("\\n"),
                '\t' => quoted.Append("\\t"),
                < ' ' or 0x7f => quoted.Append($"\\x{rune.Value:x2}"),
                > 0x7f when !Rune.IsLetterOrDigit(rune) => quoted.Append($"\\U{rune.Value:x8}"),
                _ => quoted.Append(rune),
            };
        return quoted.Append('"').ToString();
    }
}
