using System.Globalization;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Text;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Texts;

/// <summary>Python's str() and repr() of values, and its idea of characters: code points, not UTF-16 units.</summary>
internal static class PythonText
{
    /// <summary>What {{ value }} prints.</summary>
    public static string Of(object value) =>
        value switch
        {
            string text => text,
            Markup markup => markup.Text,
            Undefined => "",
            _ => Repr(value),
        };

    /// <summary>The text of a string or Markup.</summary>
    /// <exception cref="ValueException">The value is no text.</exception>
    public static string Plain(object? value) =>
        value switch
        {
            string text => text,
            Markup markup => markup.Text,
            Undefined undefined => throw new ValueException(undefined.Problem),
            _ => throw new ValueException($"expected a str, found {TypeNames.Of(value ?? None.Value)}"),
        };

    public static string Repr(object value)
    {
        if (!RuntimeHelpers.TryEnsureSufficientExecutionStack())
            throw new ValueException("the value is nested too deeply to print");
        Meter.Step();
        return value switch
        {
            None => "None",
            bool flag => flag ? "True" : "False",
            BigInteger integer => integer.ToString(CultureInfo.InvariantCulture),
            double number => Numbers.Text(number),
            string text => Quote(text),
            Markup markup => $"Markup({Quote(markup.Text)})",
            Undefined => "Undefined",
            Sequence { IsTuple: true, Items: [var only] } => $"({Repr(only)},)",
            Sequence { IsTuple: true } tuple => $"({Join(tuple.Items)})",
            Sequence list => $"[{Join(list.Items)}]",
            Mapping mapping => $"{{{Join(mapping.Entries)}}}",
            DictView view => $"{view.Kind}([{Join(view.Items)}])",
            NumberRange range when range.Step.IsOne => $"range({range.Start}, {range.Stop})",
            NumberRange range => $"range({range.Start}, {range.Stop}, {range.Step})",
            _ => throw new ValueException($"a {TypeNames.Of(value)} has no text form that is the same each time"),
        };
    }

    private static string Join(IEnumerable<object> items) => Join(items.Select(Repr));

    private static string Join(IEnumerable<KeyValuePair<object, object>> entries) =>
        Join(entries.Select(e => $"{Repr(e.Key)}: {Repr(e.Value)}"));

    private static string Join(IEnumerable<string> parts)
    {
        var text = new StringBuilder();
        foreach (string part in parts)
        {
            text.Append(text.Length > 0 ? ", " : "").Append(part);
            Meter.CheckLength(text.Length);
        }
        return Meter.Text(text.ToString());
    }

    private static string Quote(string text)
    {
        char quote = text.Contains('\'') && !text.Contains('"') ? '"' : '\'';
        var quoted = new StringBuilder().Append(quote);
        foreach (var rune in text.EnumerateRunes())
            quoted.Append(Escape(rune, quote));
        return quoted.Append(quote).ToString();
    }

    private static string Escape(Rune rune, char quote) =>
        rune.Value switch
        {
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\\' => "\\\\",
            int c when c == quote => "\\" + quote,
            _ when IsPrintable(rune) => rune.ToString(),
            < 0x100 => $"\\x{rune.Value:x2}",
            < 0x10000 => $"\\u{rune.Value:x4}",
            _ => $"\\U{rune.Value:x8}",
        };

    private static bool IsPrintable(Rune rune) =>
        rune.Value == ' '
        || Rune.GetUnicodeCategory(rune)
            is not (
                UnicodeCategory.Control
                or UnicodeCategory.Format
                or UnicodeCategory.Surrogate
                or UnicodeCategory.PrivateUse
                or UnicodeCategory.OtherNotAssigned
                or UnicodeCategory.LineSeparator
                or UnicodeCategory.ParagraphSeparator
                or UnicodeCategory.SpaceSeparator
            );

    /// <summary>Python's str.isspace of one character.</summary>
    public static bool IsSpace(char c) => char.IsWhiteSpace(c) || c is >= '\x1c' and <= '\x1f';

    public static string StripStart(string text)
    {
        int start = 0;
        while (start < text.Length && IsSpace(text[start]))
            start++;
        return text[start..];
    }

    public static string StripEnd(string text)
    {
        int end = text.Length;
        while (end > 0 && IsSpace(text[end - 1]))
            end--;
        return text[..end];
    }

    public static string Strip(string text) => StripStart(StripEnd(text));

    /// <summary>Number of code points.</summary>
    public static int Length(string text) => HasPairs(text) ? text.EnumerateRunes().Count() : text.Length;

    /// <summary>The code point at a place; null if there is none.</summary>
    /// <param name="place">From 0; negative counts from the end.</param>
    public static string? CharacterAt(string text, BigInteger place)
    {
        Meter.Step(1 + text.Length / 64);
        if (place < 0)
            place += Length(text);
        if (place < 0 || place >= text.Length)
            return null;
        return HasPairs(text) ? Characters(text).ElementAtOrDefault((int)place) : text[(int)place].ToString();
    }

    /// <summary>Code points from a place to another; both are within the text.</summary>
    public static string Part(string text, int start, int end)
    {
        if (start >= end)
            return "";
        return HasPairs(text) ? string.Concat(Characters(text).Skip(start).Take(end - start)) : text[start..end];
    }

    /// <summary>Each code point as a text.</summary>
    public static IEnumerable<string> Characters(string text) =>
        HasPairs(text) ? text.EnumerateRunes().Select(r => r.ToString()) : text.Select(c => c.ToString());

    /// <summary>Place of a code point, from a place in UTF-16.</summary>
    public static int CodePointIndex(string text, int index) => index <= 0 ? index : Length(text[..index]);

    /// <summary>Order of code points, which is not that of UTF-16 units.</summary>
    public static int Compare(string a, string b)
    {
        if (!HasPairs(a) && !HasPairs(b))
            return string.CompareOrdinal(a, b);
        using var left = a.EnumerateRunes().GetEnumerator();
        using var right = b.EnumerateRunes().GetEnumerator();
        while (left.MoveNext())
        {
            if (!right.MoveNext())
                return 1;
            if (left.Current != right.Current)
                return left.Current.CompareTo(right.Current);
        }
        return right.MoveNext() ? -1 : 0;
    }

    private static bool HasPairs(string text) => text.AsSpan().IndexOfAnyInRange('\ud800', '\udfff') >= 0;
}
