using System.Globalization;
using System.Text;

namespace SimpleR1.Models.Prompts.Jinja.Texts;

/// <summary>Upper and lower case as Python has it, with the letters whose other case is several.</summary>
internal static class TextCase
{
    private static readonly Dictionary<char, string> LongUpper = new()
    {
        ['ß'] = "SS",
        ['ŉ'] = "ʼN",
        ['ǰ'] = "J̌",
        ['ﬀ'] = "FF",
        ['ﬁ'] = "FI",
        ['ﬂ'] = "FL",
        ['ﬃ'] = "FFI",
        ['ﬄ'] = "FFL",
        ['ﬅ'] = "ST",
        ['ﬆ'] = "ST",
    };

    public static string Upper(string text)
    {
        if (!text.Any(LongUpper.ContainsKey))
            return text.ToUpperInvariant();
        return string.Concat(text.Select(c => LongUpper.GetValueOrDefault(c) ?? c.ToString())).ToUpperInvariant();
    }

    public static string Lower(string text)
    {
        string lower = text.ToLowerInvariant();
        if (text.Contains('İ'))
            lower = string.Concat(text.Select(c => c == 'İ' ? "i̇" : char.ToLowerInvariant(c).ToString()));
        return text.Contains('Σ') ? WithFinalSigmas(text, lower) : lower;
    }

    /// <summary>Σ at the end of a word becomes ς.</summary>
    private static string WithFinalSigmas(string text, string lower)
    {
        var result = new StringBuilder(lower);
        for (int i = 0; i < text.Length && lower.Length == text.Length; i++)
        {
            bool isLast = i + 1 == text.Length || !char.IsLetter(text[i + 1]);
            if (text[i] == 'Σ' && isLast && i > 0 && char.IsLetter(text[i - 1]))
                result[i] = 'ς';
        }
        return result.ToString();
    }

    /// <summary>The first letter in upper case, all others in lower.</summary>
    public static string Capitalize(string text)
    {
        if (text.Length == 0)
            return text;
        int first = char.IsHighSurrogate(text[0]) && text.Length > 1 ? 2 : 1;
        return TitleLetter(text[..first]) + Lower(text)[Lower(text[..first]).Length..];
    }

    /// <summary>The first letter of each run of letters in upper case, all others in lower.</summary>
    public static string Title(string text)
    {
        var result = new StringBuilder();
        bool inWord = false;
        foreach (var rune in text.EnumerateRunes())
        {
            string letter = rune.ToString();
            result.Append(inWord ? Lower(letter) : TitleLetter(letter));
            inWord = IsCased(rune);
        }
        return result.ToString();
    }

    public static string Swap(string text) =>
        string.Concat(
            text.EnumerateRunes().Select(rune => Rune.IsUpper(rune) ? Lower(rune.ToString()) : Upper(rune.ToString()))
        );

    public static bool IsLower(string text) =>
        text.EnumerateRunes().Any(IsCased) && text.EnumerateRunes().All(r => !IsCased(r) || Rune.IsLower(r));

    public static bool IsUpper(string text) =>
        text.EnumerateRunes().Any(IsCased) && text.EnumerateRunes().All(r => !IsCased(r) || Rune.IsUpper(r));

    public static bool IsTitle(string text) => text.EnumerateRunes().Any(IsCased) && Title(text) == text;

    private static bool IsCased(Rune rune) =>
        Rune.GetUnicodeCategory(rune)
            is UnicodeCategory.UppercaseLetter
                or UnicodeCategory.LowercaseLetter
                or UnicodeCategory.TitlecaseLetter;

    private static string TitleLetter(string letter)
    {
        string upper = Upper(letter);
        return letter.Length == 1 && upper.Length > 1 ? upper[..1] + Lower(upper[1..]) : upper;
    }
}
