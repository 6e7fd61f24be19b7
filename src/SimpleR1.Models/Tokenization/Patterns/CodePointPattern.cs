using System.Text.RegularExpressions;

namespace SimpleR1.Models.Tokenization.Patterns;

/// <summary>
/// A pattern of the reference (Oniguruma's syntax), which sees code points where .NET's patterns see UTF-16 units. Texts
/// without characters beyond U+FFFF, the most by far, have a pattern of their own that is as fast as .NET's are.
/// </summary>
internal sealed class CodePointPattern
{
    private const RegexOptions Options = RegexOptions.Compiled | RegexOptions.CultureInvariant;

    private readonly Regex basic;
    private readonly Lazy<Regex> full;

    private CodePointPattern(Func<bool, string> translate)
    {
        basic = new(translate(false), Options);
        full = new(() => new(translate(true), Options));
    }

    /// <exception cref="NotSupportedException">Some construct can't be translated; it is named.</exception>
    public static CodePointPattern Translate(string pattern) =>
        new(astral => new PatternTranslator(pattern, astral).Translate());

    /// <summary>A pattern that matches this text and nothing else.</summary>
    public static CodePointPattern Exactly(string text) => new(_ => Regex.Escape(text));

    /// <summary>The .NET pattern that finds this pattern's matches in a text of whole characters.</summary>
    public Regex For(ReadOnlySpan<char> text) => text.ContainsAnyInRange('\uD800', '\uDFFF') ? full.Value : basic;

    /// <summary>All matches from left to right; an empty one never cuts a character.</summary>
    public List<(int Start, int End)> Matches(string text)
    {
        var matches = new List<(int Start, int End)>();
        int last = -1;
        foreach (var match in For(text).EnumerateMatches(text))
        {
            int end = match.Index + match.Length;
            bool cutsCharacter = match.Index < text.Length && char.IsLowSurrogate(text[match.Index]);
            if (match.Length == 0 && (match.Index == last || cutsCharacter))
                continue;
            matches.Add((match.Index, end));
            last = end;
        }

        return matches;
    }
}
