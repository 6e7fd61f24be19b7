using System.Numerics;
using System.Text;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Texts;

/// <summary>Python's splitting, stripping, padding and replacing of texts.</summary>
internal static class TextLayout
{
    /// <summary>A text several times; negative counts are 0.</summary>
    public static string Repeat(string text, BigInteger count)
    {
        if (count <= 0 || text.Length == 0)
            return "";
        Meter.Characters((long)BigInteger.Min(int.MaxValue, text.Length * count));
        return new StringBuilder().Insert(0, text, (int)count).ToString();
    }

    public static string Center(string text, int width, char fill)
    {
        int room = Math.Max(0, width - PythonText.Length(text));
        Meter.Characters((long)text.Length + room);
        int left = room / 2 + (room & width & 1);
        return new string(fill, left) + text + new string(fill, room - left);
    }

    /// <param name="left">Whether the text comes first.</param>
    public static string Pad(string text, int width, char fill, bool left)
    {
        int room = Math.Max(0, width - PythonText.Length(text));
        Meter.Characters((long)text.Length + room);
        string padding = new(fill, room);
        return left ? text + padding : padding + text;
    }

    /// <summary>Removes any of some characters from one or both ends.</summary>
    public static string Strip(string text, string characters, bool start, bool end)
    {
        var set = characters.EnumerateRunes().ToHashSet();
        var runes = text.EnumerateRunes().ToArray();
        int first = 0;
        int last = runes.Length;
        while (start && first < last && set.Contains(runes[first]))
            first++;
        while (end && last > first && set.Contains(runes[last - 1]))
            last--;
        return string.Concat(runes[first..last].Select(r => r.ToString()));
    }

    /// <param name="count">Most replacements; negative for all.</param>
    public static string Replace(string text, string old, string replacement, int count)
    {
        int most = count < 0 ? int.MaxValue : count;
        if (old.Length == 0)
            return ReplaceEmpty(text, replacement, most);

        var result = new StringBuilder();
        int done = 0;
        for (int replaced = 0; replaced < most; replaced++)
        {
            int found = text.IndexOf(old, done, StringComparison.Ordinal);
            if (found < 0)
                break;
            Meter.CheckLength((long)result.Length + found - done + replacement.Length);
            result.Append(text, done, found - done).Append(replacement);
            done = found + old.Length;
        }
        return Meter.Text(result.Append(text, done, text.Length - done).ToString());
    }

    /// <summary>Puts the replacement before each character and at the end.</summary>
    private static string ReplaceEmpty(string text, string replacement, int most)
    {
        string[] characters = [.. PythonText.Characters(text)];
        Meter.Characters(text.Length + (characters.Length + 1L) * replacement.Length);
        var result = new StringBuilder();
        for (int i = 0; i <= characters.Length; i++)
        {
            if (i < most)
                result.Append(replacement);
            if (i < characters.Length)
                result.Append(characters[i]);
        }
        return result.ToString();
    }

    /// <summary>Splits at line ends, as Python knows them: also form feeds and U+2028.</summary>
    public static IEnumerable<string> SplitLines(string text, bool keepEnds)
    {
        int start = 0;
        for (int i = 0; i < text.Length; i++)
        {
            if (!IsLineEnd(text[i]))
                continue;
            int end = i;
            if (text[i] == '\r' && i + 1 < text.Length && text[i + 1] == '\n')
                i++;
            yield return text[start..(keepEnds ? i + 1 : end)];
            start = i + 1;
        }
        if (start < text.Length)
            yield return text[start..];
    }

    private static bool IsLineEnd(char c) =>
        c is >= '\n' and <= '\r' or >= '\x1c' and <= '\x1e' or '\x85' or '\u2028' or '\u2029';

    /// <summary>Splits at a separator.</summary>
    /// <param name="most">Most splits; negative for all.</param>
    public static List<string> Split(string text, string separator, int most)
    {
        if (separator.Length == 0)
            throw new ValueException("empty separator");
        var parts = new List<string>();
        int start = 0;
        while (most < 0 || parts.Count < most)
        {
            int found = text.IndexOf(separator, start, StringComparison.Ordinal);
            if (found < 0)
                break;
            parts.Add(text[start..found]);
            start = found + separator.Length;
        }
        parts.Add(text[start..]);
        return parts;
    }

    /// <summary>Splits at a separator, from the end.</summary>
    public static List<string> SplitBack(string text, string separator, int most)
    {
        if (separator.Length == 0)
            throw new ValueException("empty separator");
        var parts = new List<string>();
        int end = text.Length;
        while (most < 0 || parts.Count < most)
        {
            int found = text[..end].LastIndexOf(separator, StringComparison.Ordinal);
            if (found < 0)
                break;
            parts.Add(text[(found + separator.Length)..end]);
            end = found;
        }
        parts.Add(text[..end]);
        parts.Reverse();
        return parts;
    }

    /// <summary>Splits at white space; a text of white space has no parts.</summary>
    public static List<string> SplitWords(string text, int most)
    {
        var parts = new List<string>();
        string rest = PythonText.StripStart(text);
        while (rest.Length > 0)
        {
            int end = 0;
            while (end < rest.Length && !PythonText.IsSpace(rest[end]))
                end++;
            if (most >= 0 && parts.Count >= most)
                end = rest.Length;
            parts.Add(rest[..end]);
            rest = PythonText.StripStart(rest[end..]);
        }
        return parts;
    }

    /// <summary>Splits at white space, from the end.</summary>
    public static List<string> SplitWordsBack(string text, int most)
    {
        var parts = new List<string>();
        string rest = PythonText.StripEnd(text);
        while (rest.Length > 0)
        {
            int start = rest.Length;
            while (start > 0 && !PythonText.IsSpace(rest[start - 1]))
                start--;
            if (most >= 0 && parts.Count >= most)
                start = 0;
            parts.Add(rest[start..]);
            rest = PythonText.StripEnd(rest[..start]);
        }
        parts.Reverse();
        return parts;
    }
}
