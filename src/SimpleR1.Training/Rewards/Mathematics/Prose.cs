using System.Text.RegularExpressions;
using SimpleR1.Training.Rewards.Mathematics.Expressions;

namespace SimpleR1.Training.Rewards.Mathematics;

/// <summary>
/// Tells words from letters side by side: "total" is a word, "xyz" and the ab of 2ab are products. Answers that are
/// words are compared here.
/// </summary>
internal static partial class Prose
{
    /// <summary>Words of two and three letters. Other letters side by side, as few as these, are products.</summary>
    private static readonly HashSet<string> ShortWords =
    [
        .. (
            "is it on no of to so he we my by be at as an if us up me do go am pm hi ok vs "
            + "the for are but not you all any can had her was one our out day get has him his how man new now old see "
            + "two way who did its let she too use yes odd six ten few mon tue wed thu fri sat sun jan feb mar apr may "
            + "jun jul aug sep oct nov dec red boy dog cat cup pen age ago sum per pie egg car cow hen pig bag box bed "
            + "toy bus men win won lot top end pts usd eur rs kid ans due tie"
        ).Split(' '),
    ];

    private const int MaxLength = 1000;
    private const int Clause = 60; // characters in which a denial is looked for

    /// <summary>True when letters that stand in a text are a word of a language, not a product or a function.</summary>
    /// <param name="start">Where the letters begin.</param>
    /// <param name="length">How many they are; the neighbours are no letters.</param>
    public static bool IsWord(string text, int start, int length)
    {
        string letters = text.Substring(start, length);
        if (length < 2 || MathParser.IsKnown(letters))
            return false;
        string lower = letters.ToLowerInvariant();
        if (length <= 3)
            return ShortWords.Contains(lower) && !IsFactor(text, start, length);
        bool hasVowel = lower.AsSpan().IndexOfAny("aeiou") >= 0;
        bool isAscending = !lower.Skip(1).Where((c, i) => c <= lower[i]).Any(); // abcd, wxyz
        return hasVowel && !isAscending;
    }

    /// <summary>True when words make a text more than a formula.</summary>
    public static bool Contains(string text)
    {
        string bare = CommandOrText().Replace(text, " ");
        return Letters().Matches(bare).Any(m => IsWord(bare, m.Index, m.Length));
    }

    /// <summary>
    /// True when both texts are words, and the same ones. Case matters only for single letters; numbers among the
    /// words must be equal.
    /// </summary>
    public static bool Same(string a, string b) =>
        Words(a) is { Length: > 0 } wanted && Words(b) is { } found && wanted == found;

    /// <summary>True when a text says that what stands from start to end is not the answer: "not 5", "5 is wrong".</summary>
    public static bool Denies(string text, int start, int end) =>
        Denial().IsMatch(text[Math.Max(0, start - Clause)..start])
        || Rejection().IsMatch(text[end..Math.Min(text.Length, end + Clause)]);

    /// <summary>True when a text has a word that turns a statement into its opposite.</summary>
    public static bool Negates(string text) => Negation().IsMatch(text);

    /// <summary>True when a text is words, perhaps with numbers among them, and no formula.</summary>
    public static bool IsWords(string text) => Words(text) is not null;

    /// <summary>
    /// A text as words to compare: lower case, without articles, punctuation and brackets around all of it. Null when
    /// signs or single letters make it a formula.
    /// </summary>
    private static string? Words(string text)
    {
        if (text.Length > MaxLength)
            return null;
        string plain = TextCommand().Replace(text, "$1").Trim(' ', '.', ',', ';', ':', '"', '“', '”', '?');
        if (Enclosed().Match(plain) is { Success: true } enclosed)
            plain = enclosed.Groups[1].Value + enclosed.Groups[2].Value;
        plain = AmPm().Replace(plain, "$1m");
        if (!plain.Any(char.IsLetter) || Formula().IsMatch(plain))
            return null;
        string[] words = [.. Word().Matches(plain).Select(m => m.Value)];
        bool hasHyphen = plain.IndexOfAny(['-', '–', '’', '\'']) >= 0;
        if (
            words.Any(w => w.Length == 1 && char.IsLetter(w[0]))
            && (hasHyphen || words.Length > 1 && !HasLongWord(words))
        )
            return null; // x-y, f', x y
        string[] kept =
        [
            .. words
                .Select(w => w.Length > 1 ? w.ToLowerInvariant() : w)
                .Select(w => NumberWords.Digit(w) ?? w)
                .Where(w => words.Length == 1 || w is not ("the" or "a" or "an" or "and")),
        ];
        return string.Join(HasLongWord(kept) && !kept.Any(w => w.Any(char.IsDigit)) ? "" : " ", kept);
    }

    private static bool HasLongWord(string[] words) => words.Any(w => w.Length > 1 && w.All(char.IsLetter));

    /// <summary>2an, an+b, an^2: letters next to a digit or an operator are factors.</summary>
    private static bool IsFactor(string text, int start, int length)
    {
        char before = start > 0 ? text[start - 1] : ' ';
        char after = start + length < text.Length ? text[start + length] : ' ';
        return IsOperator(before) || IsOperator(after);

        static bool IsOperator(char c) => char.IsAsciiDigit(c) || c is '^' or '_' or '+' or '*' or '=';
    }

    /// <summary>Up to three words between a denial and a number, none of them a verb that begins another statement.</summary>
    [GeneratedRegex(
        @"(?:\b(?:not|never|neither|nor|cannot|except)|n['’]t)"
            + @"(?:\s+\\?(?!(?:is|are|was|were|equals|gives|makes|so|but|which)\b)\w+){0,3}\W{0,6}$"
            + @"|\b(?:other|less|more|fewer|greater|larger|smaller|rather)\s+than\W{0,4}$"
            + @"|\b(?:at\s+(?:least|most)|anything\s+but|up\s+to|between\s+[\d.,$]+\s+and)\W{0,4}$",
        RegexOptions.IgnoreCase
    )]
    private static partial Regex Denial();

    [GeneratedRegex(
        @"^\W{0,4}(?:\w+\s+){0,3}(?:(?:is|are|was)\s+not\b|(?:isn|aren|wasn)['’]t\b|(?:wrong|incorrect|false)\b)|^\?\s*no\b",
        RegexOptions.IgnoreCase
    )]
    private static partial Regex Rejection();

    [GeneratedRegex(@"\b(?:not?|never|neither|nor|cannot)\b|n['’]t\b", RegexOptions.IgnoreCase)]
    private static partial Regex Negation();

    [GeneratedRegex(@"[A-Za-z]+")]
    private static partial Regex Letters();

    [GeneratedRegex(@"\\(?:text|mbox|textbf|textit|textnormal|mathrm|begin|end)\s*\{[^{}]*\}|\\[a-zA-Z]+|_\{[^{}]*\}")]
    private static partial Regex CommandOrText();

    [GeneratedRegex(@"\\(?:text|mbox|textbf|textit|textrm|textnormal|textsf|mathrm|mathbf)\s*\{([^{}]*)\}")]
    private static partial Regex TextCommand();

    [GeneratedRegex(@"^[(\[]([^()\[\]]*)[)\]]$|^([A-Z])\)$")]
    private static partial Regex Enclosed();

    [GeneratedRegex(@"\b([ap])\.\s?m\b\.?", RegexOptions.IgnoreCase)]
    private static partial Regex AmPm();

    /// <summary>What only formulas hold; a hyphen belongs to words only between letters.</summary>
    [GeneratedRegex(@"[=<>≤≥≠≈+*/\\^|!_{}()\[\]%$°√π∞]|(?<![\p{L}\d])[-–−]|[-–−](?!\p{L})")]
    private static partial Regex Formula();

    [GeneratedRegex(@"\d+(?:[.,:]\d+)*|[\p{L}\p{M}]+")]
    private static partial Regex Word();
}
