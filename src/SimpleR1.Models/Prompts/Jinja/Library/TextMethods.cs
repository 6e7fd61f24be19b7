using System.Globalization;
using System.Numerics;
using System.Text;
using SimpleR1.Models.Prompts.Jinja.Texts;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Library;

/// <summary>The methods of Python's str.</summary>
internal static class TextMethods
{
    public static readonly IReadOnlyDictionary<string, TextMethod> All = new Dictionary<string, TextMethod>
    {
        ["capitalize"] = TextMethod.Of(TextCase.Capitalize),
        ["center"] = new(new(1, "width", "fill"), (t, a) => TextLayout.Center(t, a.Integer(0, 0), Fill(a))),
        ["count"] = new(new(1, "sub"), (t, a) => Count(t, PythonText.Plain(a[0]))),
        ["endswith"] = new(new(1, "suffix"), (t, a) => Any(a, end => t.EndsWith(end, StringComparison.Ordinal))),
        ["find"] = new(new(1, "sub"), (t, a) => Find(t, a, fromEnd: false)),
        ["format"] = new(Parameters.Any, (t, a) => BraceFormat.Apply(t, a.Call)),
        ["index"] = new(new(1, "sub"), (t, a) => Index(t, a, fromEnd: false)),
        ["isalnum"] = AllRunes(r => Rune.IsLetter(r) || IsNumeric(r)),
        ["isalpha"] = AllRunes(Rune.IsLetter),
        ["isascii"] = TextMethod.Of(text => text.All(char.IsAscii)),
        ["isdecimal"] = AllRunes(r => Rune.GetUnicodeCategory(r) == UnicodeCategory.DecimalDigitNumber),
        ["isdigit"] = AllRunes(r => Rune.GetUnicodeCategory(r) == UnicodeCategory.DecimalDigitNumber || IsNumeric(r)),
        ["islower"] = TextMethod.Of(text => TextCase.IsLower(text)),
        ["isnumeric"] = AllRunes(IsNumeric),
        ["isspace"] = TextMethod.Of(text => text.Length > 0 && text.All(PythonText.IsSpace)),
        ["istitle"] = TextMethod.Of(text => TextCase.IsTitle(text)),
        ["isupper"] = TextMethod.Of(text => TextCase.IsUpper(text)),
        ["join"] = new(new(1, "items"), Join),
        ["ljust"] = new(new(1, "width", "fill"), (t, a) => TextLayout.Pad(t, a.Integer(0, 0), Fill(a), left: true)),
        ["lower"] = TextMethod.Of(TextCase.Lower),
        ["lstrip"] = new(new(0, "chars"), (t, a) => Strip(t, a, start: true, end: false)),
        ["partition"] = new(new(1, "sep"), (t, a) => Partition(t, PythonText.Plain(a[0]), fromEnd: false)),
        ["removeprefix"] = new(new(1, "prefix"), (t, a) => RemovePrefix(t, PythonText.Plain(a[0]))),
        ["removesuffix"] = new(new(1, "suffix"), (t, a) => RemoveSuffix(t, PythonText.Plain(a[0]))),
        ["replace"] = new(new(2, "old", "new", "count"), Replace),
        ["rfind"] = new(new(1, "sub"), (t, a) => Find(t, a, fromEnd: true)),
        ["rindex"] = new(new(1, "sub"), (t, a) => Index(t, a, fromEnd: true)),
        ["rjust"] = new(new(1, "width", "fill"), (t, a) => TextLayout.Pad(t, a.Integer(0, 0), Fill(a), left: false)),
        ["rpartition"] = new(new(1, "sep"), (t, a) => Partition(t, PythonText.Plain(a[0]), fromEnd: true)),
        ["rsplit"] = new(new(0, "sep", "maxsplit"), (t, a) => Split(t, a, fromEnd: true)),
        ["rstrip"] = new(new(0, "chars"), (t, a) => Strip(t, a, start: false, end: true)),
        ["split"] = new(new(0, "sep", "maxsplit"), (t, a) => Split(t, a, fromEnd: false)),
        ["splitlines"] = new(new(0, "keepends"), (t, a) => List(TextLayout.SplitLines(t, a.Flag(0)))),
        ["startswith"] = new(
            new(1, "prefix"),
            (t, a) => Any(a, start => t.StartsWith(start, StringComparison.Ordinal))
        ),
        ["strip"] = new(new(0, "chars"), (t, a) => Strip(t, a, start: true, end: true)),
        ["swapcase"] = TextMethod.Of(TextCase.Swap),
        ["title"] = TextMethod.Of(TextCase.Title),
        ["upper"] = TextMethod.Of(TextCase.Upper),
        ["zfill"] = new(new(1, "width"), (t, a) => FillWithZeros(t, a.Integer(0, 0))),
    };

    private static TextMethod AllRunes(Func<Rune, bool> test) =>
        TextMethod.Of(text => text.Length > 0 && text.EnumerateRunes().All(test));

    private static bool IsNumeric(Rune rune) => Rune.IsNumber(rune);

    private static char Fill(BoundValues arguments) =>
        arguments.Text(1, " ") is { Length: 1 } fill
            ? fill[0]
            : throw new ValueException("The fill character must be exactly one character long");

    private static object Count(string text, string part)
    {
        if (part.Length == 0)
            return new BigInteger(PythonText.Length(text) + 1);
        return new BigInteger(TextLayout.Split(text, part, -1).Count - 1);
    }

    /// <summary>Whether a test is true of a text, or of one of a tuple.</summary>
    private static object Any(BoundValues arguments, Func<string, bool> test) =>
        arguments[0] is Values.Sequence { IsTuple: true } texts
            ? texts.Items.Any(text => test(PythonText.Plain(text)))
            : test(PythonText.Plain(arguments[0]));

    private static BigInteger Find(string text, BoundValues arguments, bool fromEnd)
    {
        string part = PythonText.Plain(arguments[0]);
        int found = fromEnd ? LastIndex(text, part) : text.IndexOf(part, StringComparison.Ordinal);
        return PythonText.CodePointIndex(text, found);
    }

    /// <summary>string.LastIndexOf, which finds an empty text at the end in every version.</summary>
    private static int LastIndex(string text, string part) =>
        part.Length == 0 ? text.Length : text.LastIndexOf(part, StringComparison.Ordinal);

    private static object Index(string text, BoundValues arguments, bool fromEnd)
    {
        var found = Find(text, arguments, fromEnd);
        return found.Sign >= 0 ? found : throw new ValueException("substring not found");
    }

    private static object Join(string separator, BoundValues arguments)
    {
        var text = new StringBuilder();
        bool first = true;
        foreach (object item in Protocols.Iterate(arguments[0] ?? None.Value))
        {
            if (!first)
                text.Append(separator);
            first = false;
            string next = PythonText.Plain(item);
            Meter.Characters(separator.Length + next.Length);
            Meter.CheckLength(text.Append(next).Length);
        }
        return text.ToString();
    }

    private static object Strip(string text, BoundValues arguments, bool start, bool end)
    {
        if (arguments[0] is { } characters)
            return TextLayout.Strip(text, PythonText.Plain(characters), start, end);
        string stripped = start ? PythonText.StripStart(text) : text;
        return end ? PythonText.StripEnd(stripped) : stripped;
    }

    private static object Partition(string text, string separator, bool fromEnd)
    {
        if (separator.Length == 0)
            throw new ValueException("empty separator");
        int found = fromEnd
            ? text.LastIndexOf(separator, StringComparison.Ordinal)
            : text.IndexOf(separator, StringComparison.Ordinal);
        if (found < 0)
            return fromEnd ? Values.Sequence.Tuple("", "", text) : Values.Sequence.Tuple(text, "", "");
        return Values.Sequence.Tuple(text[..found], separator, text[(found + separator.Length)..]);
    }

    private static object RemovePrefix(string text, string prefix) =>
        text.StartsWith(prefix, StringComparison.Ordinal) ? text[prefix.Length..] : text;

    private static object RemoveSuffix(string text, string suffix) =>
        text.EndsWith(suffix, StringComparison.Ordinal) ? text[..^suffix.Length] : text;

    private static object Replace(string text, BoundValues arguments) =>
        TextLayout.Replace(
            text,
            PythonText.Plain(arguments[0]),
            PythonText.Plain(arguments[1]),
            arguments.Integer(2, -1)
        );

    private static object Split(string text, BoundValues arguments, bool fromEnd)
    {
        int most = arguments.Integer(1, -1);
        if (arguments[0] is not { } separator)
            return List(fromEnd ? TextLayout.SplitWordsBack(text, most) : TextLayout.SplitWords(text, most));
        string mark = PythonText.Plain(separator);
        return List(fromEnd ? TextLayout.SplitBack(text, mark, most) : TextLayout.Split(text, mark, most));
    }

    private static object List(IEnumerable<string> texts) => SequenceFilters.ToList(texts);

    private static object FillWithZeros(string text, int width)
    {
        int sign = text.Length > 0 && text[0] is '-' or '+' ? 1 : 0;
        return text[..sign] + TextLayout.Pad(text[sign..], width - sign, '0', left: false);
    }
}
