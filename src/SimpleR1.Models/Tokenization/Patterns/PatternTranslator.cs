using System.Globalization;
using System.Text;

namespace SimpleR1.Models.Tokenization.Patterns;

/// <summary>
/// Translates a pattern of Oniguruma's syntax to .NET's. What differs: quantifiers may be possessive, <c>^</c> and
/// <c>$</c> match at lines, <c>.</c> and classes are of code points, <c>\w</c> and <c>\h</c> mean other sets, and case
/// is ignored by Unicode's folding. Groups capture nothing.
/// </summary>
/// <param name="astral">Whether the text may have characters beyond U+FFFF, as two UTF-16 units.</param>
internal sealed partial class PatternTranslator(string pattern, bool astral)
{
    private int at;
    private bool ignoreCase;
    private bool dotMatchesLines;
    private int previousLetter = -1; // the ASCII letter just before, when case is ignored

    /// <exception cref="NotSupportedException">Some construct can't be translated; it is named.</exception>
    public string Translate()
    {
        if (pattern.Length == 0)
            throw new NotSupportedException("an empty pattern is not supported");
        string translated = Alternatives();
        return at == pattern.Length ? translated : throw Unsupported("an unmatched )");
    }

    private bool More => at < pattern.Length;

    private bool Skip(string text)
    {
        bool found = string.CompareOrdinal(pattern, at, text, 0, text.Length) == 0;
        if (found)
            at += text.Length;
        return found;
    }

    private NotSupportedException Unsupported(string what) =>
        new($"the pattern {pattern}: {what} (at character {at + 1}) is not supported");

    /// <summary>Reads up to the end of a group or of the pattern.</summary>
    private string Alternatives()
    {
        var text = new StringBuilder();
        while (More && pattern[at] != ')')
        {
            if (Skip("|"))
            {
                previousLetter = -1;
                text.Append('|');
                continue;
            }

            string atom = Atom();
            text.Append(Quantified(atom));
        }

        previousLetter = -1;
        return text.ToString();
    }

    /// <summary>One unit that a quantifier can follow.</summary>
    private string Atom()
    {
        int letter = previousLetter;
        previousLetter = -1;
        switch (pattern[at])
        {
            case '(':
                return Group();
            case '[':
                at++;
                return Class();
            case '.':
                at++;
                return Emit(dotMatchesLines ? CodePointSet.Of(0, 0x10FFFF) : CodePointSet.Of('\n', '\n').Complement());
            case '^':
                at++;
                return @"(?:\A|(?<=\n)(?!\z))";
            case '$':
                at++;
                return @"(?=\n|\z)";
            case '\\':
                at++;
                return Escape();
            case '*' or '+' or '?':
                throw Unsupported("a quantifier of nothing");
            default:
                return Literal(NextPoint(), letter);
        }
    }

    private int NextPoint()
    {
        if (!More)
            throw Unsupported("an end in the middle");
        int point = char.IsSurrogatePair(pattern, at) ? char.ConvertToUtf32(pattern, at) : pattern[at];
        at += point > 0xFFFF ? 2 : 1;
        return point;
    }

    private string Literal(int point, int letterBefore = -1)
    {
        if (!ignoreCase)
            return Unit(point);

        bool several = CaseFolding.MayBeSeveral(point);
        if (several || (letterBefore >= 0 && point < 0x80 && CaseFolding.MayBeOne(letterBefore, point)))
            throw Unsupported("a letter that may equal several letters without regard to case");
        if (point < 0x80)
            previousLetter = point;
        return Emit(CaseFolding.Close(CodePointSet.Of(point, point)));
    }

    private static string Unit(int point)
    {
        if (point <= 0xFFFF)
            return Hex(point);
        string pair = char.ConvertFromUtf32(point);
        return $"(?:{Hex(pair[0])}{Hex(pair[1])})";
    }

    private static string Hex(int unit) => $@"\u{unit:X4}";

    private string Group()
    {
        foreach (string open in (string[])["(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"])
            if (Skip(open))
                return InGroup(open);
        if (Skip("(?#"))
        {
            int end = pattern.IndexOf(')', at);
            at = end < 0 ? throw Unsupported("a comment without an end") : end + 1;
            return "(?:)";
        }

        bool named = Skip("(?<");
        if (named)
        {
            int end = pattern.IndexOf('>', at);
            at = end < 0 ? throw Unsupported("a name without an end") : end + 1;
            return InGroup("(?:");
        }

        if (Skip("(?"))
            return Options();
        at++;
        return InGroup("(?:");
    }

    private string InGroup(string open)
    {
        string inside = Alternatives();
        if (!Skip(")"))
            throw Unsupported("a group without an end");
        return $"{open}{inside})";
    }

    /// <summary>Options for a group, or at the pattern's start for all of it.</summary>
    private string Options()
    {
        bool atStart = at == 2;
        bool caseBefore = ignoreCase;
        bool dotBefore = dotMatchesLines;
        bool on = true;
        while (More && pattern[at] is not (':' or ')'))
        {
            switch (pattern[at])
            {
                case '-':
                    on = false;
                    break;
                case 'i':
                    ignoreCase = on;
                    break;
                case 'm':
                    dotMatchesLines = on;
                    break;
                default:
                    throw Unsupported($"the group (?{pattern[at]}");
            }

            at++;
        }

        if (Skip(")"))
            return atStart ? "" : throw Unsupported("an option for the rest of a pattern");
        at++;
        string group = InGroup("(?:");
        ignoreCase = caseBefore;
        dotMatchesLines = dotBefore;
        return group;
    }

    private string Quantified(string atom)
    {
        while (More)
        {
            if (pattern[at] is '*' or '+' or '?')
            {
                char sign = pattern[at++];
                if (Skip("+"))
                    atom = $"(?>{atom}{sign})"; // possessive: gives nothing back
                else
                    atom = $"(?:{atom}{sign}{(Skip("?") ? "?" : "")})";
            }
            else if (pattern[at] == '{' && Interval() is { } interval)
            {
                bool exact = !interval.Contains(',');
                if (exact)
                    atom = $"(?:{atom}{interval})"; // a following ? is a quantifier of its own
                else
                    atom = $"(?:{atom}{interval}{(Skip("?") ? "?" : "")})";
            }
            else
                break;
            previousLetter = -1;
        }

        return atom;
    }

    /// <summary>An interval such as {1,3} in .NET's form; null where the brace is a literal.</summary>
    private string? Interval()
    {
        int end = pattern.IndexOf('}', at);
        if (end < 0)
            return null;
        string[] numbers = pattern[(at + 1)..end].Split(',');
        bool isInterval =
            numbers.Length <= 2
            && numbers.All(n => n.All(char.IsAsciiDigit) && n.Length <= 6)
            && numbers.Any(n => n.Length > 0);
        if (!isInterval)
            return null;
        at = end + 1;
        if (numbers.Length == 1)
            return $"{{{numbers[0]}}}";
        string least = numbers[0].Length == 0 ? "0" : numbers[0];
        return $"{{{least},{numbers[1]}}}";
    }

    private string Escape()
    {
        if (!More)
            throw Unsupported("a \\ at the end");
        switch (pattern[at])
        {
            case 'A' or 'z' or 'Z' or 'G':
                return $@"\{pattern[at++]}";
            case 'R':
                at++;
                return @"(?>\r\n|[\n-\r\u0085\u2028\u2029])";
            case 'b' or 'B':
                return WordBoundary(pattern[at++] == 'b');
            case >= '1' and <= '9' or 'k' or 'g' or 'K' or 'X' or 'N' or 'O' or 'y' or 'Y' or 'C' or 'M' or 'c':
                throw Unsupported($@"\{pattern[at]}");
        }

        if (pattern[at] is 'w' or 'W')
        {
            var words = UnicodeProperties.LoneWord;
            return Emit(pattern[at++] == 'w' ? words : words.Complement());
        }
        if (SetEscape() is { } item)
            return EmitClass([item], negated: false);
        return Literal(PointEscape());
    }

    private string WordBoundary(bool boundary)
    {
        string word = Emit(UnicodeProperties.LoneWord);
        return boundary
            ? $"(?:(?<={word})(?!{word})|(?<!{word})(?={word}))"
            : $"(?:(?<={word})(?={word})|(?<!{word})(?!{word}))";
    }

    /// <summary>The code point that an escape after its \ stands for.</summary>
    private int PointEscape()
    {
        int point = NextPoint();
        switch (point)
        {
            case 't':
                return '\t';
            case 'n':
                return '\n';
            case 'r':
                return '\r';
            case 'f':
                return '\f';
            case 'v':
                return '\v';
            case 'a':
                return '\a';
            case 'e':
                return 0x1B;
            case '0':
                return 0;
            case 'x' when Skip("{"):
            {
                int end = pattern.IndexOf('}', at);
                string digits = end < 0 ? "" : pattern[at..end];
                at = end + 1;
                return FromHex(digits);
            }
            case 'x':
                return FromHex(Take(2));
            case 'u':
                return FromHex(Take(4));
            default:
                bool isPunctuation = !(point < 0x80 && char.IsAsciiLetterOrDigit((char)point));
                return isPunctuation ? point : throw Unsupported($@"\{(char)point}");
        }
    }

    private string Take(int length)
    {
        string taken = pattern[at..Math.Min(at + length, pattern.Length)];
        at += taken.Length;
        return taken;
    }

    private int FromHex(string digits) =>
        int.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out int point)
        && Rune.IsValid(point)
            ? point
            : throw Unsupported($"the code point '{digits}'");
}
