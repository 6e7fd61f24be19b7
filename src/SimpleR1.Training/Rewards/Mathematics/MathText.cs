using System.Text.RegularExpressions;

namespace SimpleR1.Training.Rewards.Mathematics;

/// <summary>Finds the answer in a text. Nothing here knows mathematics. Every search takes linear time.</summary>
internal static partial class MathText
{
    private const int MaxScan = 20_000;
    private const int MaxParts = 64; // boxes or formulas that are one answer
    private const int MaxWhole = 2_000; // an answer without a box and a formula

    /// <summary>
    /// An answer as it stands in a text: several <see cref="Parts"/> when several boxes make it up; <see cref="Plain"/>
    /// when written outside LaTeX, where "2,74" may be a number.
    /// </summary>
    public sealed record Found(IReadOnlyList<string> Parts, bool Plain)
    {
        /// <summary>All of a text that holds more than a formula, without decoration; null otherwise.</summary>
        public string? Whole { get; init; }

        /// <summary>What follows its last "is" or colon.</summary>
        public string? Said { get; init; }

        /// <summary>The last number of a text, for when <see cref="Parts"/> are no formula.</summary>
        public string? Number { get; init; }

        /// <summary>The text is words with numbers among them, and none of them is the answer by itself.</summary>
        public bool IsWords { get; init; }
    }

    /// <summary>
    /// The answer that a text ends on: after "final answer", else in \boxed{}, else in the last formula, else the whole
    /// text when it is nothing but an answer, else what it says last, else its last number. A gold answer is not
    /// searched for a number: it is all of it.
    /// </summary>
    public static Found Find(string text, bool isGold = false)
    {
        if (text.Length > MaxScan)
            text = text[^MaxScan..];
        text = Blanks().Replace(text, Shortest); // searches with \s* then take linear time
        if (!text.Contains("\\begin"))
            text = DoubledBackslash().Replace(text, "\\");
        if (Stated(text) is { } stated)
            return stated;
        var parts = Boxed(text);
        if (parts.Count == 0 && Formulas.Find(text) is { Count: > 0 } formulas)
            parts = LastFormulas(text, formulas);
        return parts switch
        {
            [] => Whole(text, isGold),
            [var single] => Whole(single, isGold) with { Plain = false },
            _ => new(parts, false),
        };
    }

    /// <summary>A space, a line break or an empty line for any run of white space.</summary>
    private static string Shortest(Match blanks)
    {
        int lines = blanks.ValueSpan.Count('\n');
        if (lines == 0)
            return " ";
        return lines == 1 ? "\n" : "\n\n";
    }

    /// <summary>The answer of a text that is all answer, perhaps in words: "5 apples", "The answer is 5".</summary>
    private static Found Whole(string text, bool isGold)
    {
        string whole = Undecorate(text.Length > MaxWhole ? text[^MaxWhole..] : text);
        if (NumberWords.Digits(whole) is { } digits)
            return new([digits], true) { Whole = whole };
        if (!IsProse(whole))
            return new([whole], !whole.Contains('\\')) { Whole = whole };
        return isGold ? GoldInProse(whole) : AnswerInProse(whole);
    }

    /// <summary>
    /// The last number in a text, with its fraction, percent sign and thousands separators; null without one, and when
    /// the text says that this is not the number.
    /// </summary>
    public static string? LastNumber(string text)
    {
        text = text.Length > MaxScan ? text[^MaxScan..] : text;
        if (Number().Matches(text) is not { Count: > 0 } numbers)
            return null;
        var last = numbers[^1];
        return Prose.Denies(text, last.Index, last.Index + last.Length) ? null : last.Value;
    }

    /// <summary>The content of the last \boxed{} of a text; null without one. Braces are matched.</summary>
    public static string? LastBoxed(string text) =>
        Boxes(text) is { Count: > 0 } boxes ? boxes[^1].Content(text) : null;

    /// <summary>What follows the last "final answer" up to the end of its sentence, or the last #### up to its line's.</summary>
    private static Found? Stated(string text)
    {
        int mark = text.LastIndexOf("####", StringComparison.Ordinal);
        if (mark >= 0 && text[(mark + 4)..].Split('\n')[0].Trim() is { Length: > 0 } marked)
            return Find(marked.TrimStart('#'));
        int at = text.LastIndexOf("final answer", StringComparison.OrdinalIgnoreCase);
        if (at < 0 || text.IndexOf("\\boxed", at, StringComparison.Ordinal) >= 0)
            return null;
        string sentence = text[at..];
        if (SentenceEnd().Match(sentence) is { Success: true } end)
            sentence = sentence[..end.Index];
        var formulas = Formulas.Find(sentence);
        var numbers = Number().Matches(sentence);
        // "the largest $n$ is 34": the later of the two is the answer
        if (formulas.Count > 0 && (numbers.Count == 0 || formulas[^1].End > numbers[^1].Index + numbers[^1].Length))
            return new(LastFormulas(sentence, formulas), false);
        return LastNumber(sentence) is { } number ? new([number], true) : null;
    }

    /// <summary>
    /// The last formula with a unit after it, and those before it that belong to the same answer: "$1$ and $2$".
    /// Nothing when the text says that it is not the answer.
    /// </summary>
    private static List<string> LastFormulas(string text, List<Formulas.Formula> formulas)
    {
        var last = formulas[^1];
        if (Prose.Denies(text, last.Start, last.End))
            return [""];
        string rest = text[last.End..].Trim(' ', '.', '\n');
        List<string> parts = [rest != "" && Unit.Parse(rest) is not null ? $"{last.Content} {rest}" : last.Content];
        string start = text[..formulas[0].Start];
        bool isList = start.Trim() == "" && !rest.Any(char.IsLetterOrDigit);
        for (int i = formulas.Count - 2; i >= 0 && parts.Count < MaxParts; i--)
        {
            string between = text[formulas[i].End..formulas[i + 1].Start];
            if (between.Length > 40 || !(isList ? ListSeparator() : Conjunction()).IsMatch(between))
                break;
            parts.Insert(0, formulas[i].Content);
        }
        return parts;
    }

    /// <summary>"The answer is 18." states 18, and "5 apples" 5; "3 boys and 2 girls" states no single number.</summary>
    private static Found GoldInProse(string whole)
    {
        string? said = Said(whole);
        if (said is not null && !IsProse(said))
            return new([NumberWords.Digits(said) ?? said], !said.Contains('\\')) { Whole = whole, Said = said };
        if (Amount().Match(whole) is { Success: true } amount)
            return new([amount.Groups[1].Value], true) { Whole = whole };
        return new([whole], true) { Whole = whole, IsWords = true };
    }

    private static Found AnswerInProse(string whole)
    {
        string? said = Said(whole);
        string? number = LastNumber(whole);
        if (said is not null && AmountBeforeWords().IsMatch(said))
            said = null;
        if (said is not null && (NumberWords.Digits(said) ?? (IsProse(said) ? null : said)) is { } answer)
            return new([answer], !answer.Contains('\\'))
            {
                Whole = whole,
                Said = said,
                Number = number,
            };
        bool isFormula = !Number().IsMatch(whole) && !Prose.Negates(whole);
        return new([number ?? (isFormula ? whole : "")], true) { Whole = whole, Said = said };
    }

    /// <summary>What follows the last verb or colon of a text; null without one, or when the text denies it.</summary>
    private static string? Said(string text)
    {
        if (SaidMark().Matches(text) is not { Count: > 0 } marks)
            return null;
        int start = marks[^1].Index + marks[^1].Length;
        string said = Undecorate(text[start..]);
        return said == "" || Prose.Denies(text, start, text.Length) ? null : said;
    }

    /// <summary>
    /// True when words, units at the end aside, make a text more than a formula.
    /// </summary>
    private static bool IsProse(string text) =>
        Prose.Contains(Unit.AtEnd(text) is { } measured ? measured.Amount : text);

    /// <summary>
    /// A text without what surrounds it: emphasis, quotation marks, backticks, "=" or a heading's mark before it,
    /// punctuation after it.
    /// </summary>
    private static string Undecorate(string text)
    {
        text = text.Trim();
        text = Tag().Replace(Emphasis().Replace(text, "$1"), "$2").Replace("`", "");
        text = NegativeWord().Replace(text, "-");
        if (Approximation().Match(text) is { Success: true, Index: > 0 } decimals && !IsProse(text[..decimals.Index]))
            text = text[..decimals.Index];
        for (int i = 0; i < 8; i++)
        {
            string before = text;
            text = Mark().Replace(text, "").Trim();
            if (Surrounded().Match(text) is { Success: true } inner)
                text = inner.Groups[2].Value;
            text = text.TrimEnd('.', ',', ';', ':', ' ');
            if (text == before)
                break;
        }
        return text;
    }

    /// <summary>The last box, and those before it that belong to the same answer: "\boxed{1} and \boxed{2}".</summary>
    private static List<string> Boxed(string text)
    {
        var boxes = Boxes(text);
        var parts = new List<string>();
        for (int i = boxes.Count - 1; i >= 0 && parts.Count < MaxParts; i--)
        {
            if (
                parts.Count > 0
                && (boxes[i].End > boxes[i + 1].Start || !Joined(text[boxes[i].End..boxes[i + 1].Start]))
            )
                break; // boxes in boxes, or apart
            parts.Insert(0, boxes[i].Content(text));
        }
        return parts;

        static bool Joined(string between) =>
            between.Length <= 80
            && !between.Contains('.')
            && (Connector().IsMatch(between) || !between.Any(char.IsLetterOrDigit));
    }

    /// <summary>\boxed{…} in a text, and where its content lies.</summary>
    private readonly record struct Box(int Start, int End, int From, int To)
    {
        public string Content(string text) => text[Math.Min(From, To)..To];
    }

    private static List<Box> Boxes(string text)
    {
        var boxes = new List<Box>();
        var open = new Stack<(int Match, int Content)>(); // braces; Match is negative unless they are a box's
        var starts = BoxStart().Matches(text).ToDictionary(m => m.Index + m.Length - 1, m => m.Index);
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] == '{')
                open.Push((starts.GetValueOrDefault(i, -1), i + 1));
            else if (text[i] == '}' && open.TryPop(out var box) && box.Match >= 0)
                boxes.Add(new(box.Match, i + 1, box.Content, i));
        }
        if (boxes.Count == 0 && open.Any(b => b.Match >= 0))
        {
            var cut = open.Last(b => b.Match >= 0); // the text ends before the brace
            boxes.Add(new(cut.Match, text.Length, cut.Content, text.TrimEnd('$', ' ').Length));
        }
        return [.. boxes.OrderBy(b => b.Start)];
    }

    [GeneratedRegex(@"\s{2,}")]
    private static partial Regex Blanks();

    [GeneratedRegex(@"(?<!\\)\\\\(?=[a-zA-Z]{2})")]
    private static partial Regex DoubledBackslash();

    /// <summary>A number that is no part of a word (A4), a name (x_2, COVID-19), a time (2:30) or a version.</summary>
    [GeneratedRegex(
        @"(?:(?<![\w])(?<!\d[.,:])(?<![A-Za-z]-)|(?<=\b(?:USD|EUR|Rs|RM)))-?"
            + @"(?>\d+ \d+/\d+(?![\d/])|\d{1,3}(?:,\d{3}){1,10}(?:\.\d+)?(?!\d)|\d{1,3}(?: \d{3}){1,10}(?!\d|[.,]\d)"
            + @"|\d+(?:[.,]\d+)?|\.\d+)"
            + @"(?!:\d)(?:\s*/\s*\d+)?(?:\s*(?:hundred|thousand|million|billion|trillion)\b)?(?:\s*(?:\\?%|percent\b|pct\b))?"
            + @"(?:(?![\dA-Za-z_])|(?=(?:st|nd|rd|th|mm|cm|km|mg|kg|ml|mph|ft|lbs?|oz|hrs?|mins?|secs?|am|pm|[mghsl])\b))"
    )]
    private static partial Regex Number();

    [GeneratedRegex(@"[.!](?:\s+[A-Z]|\s*<\||\s*$)|\n\n")]
    private static partial Regex SentenceEnd();

    [GeneratedRegex(@"\\f?boxed\s*\{")]
    private static partial Regex BoxStart();

    [GeneratedRegex(@"\b(?:and|or)\b|^[\s$\\()]*[,;][\s$\\()]*$|^[^a-zA-Z]*,")]
    private static partial Regex Connector();

    /// <summary>In 2√3, or about 3.46, the decimal only explains the answer.</summary>
    [GeneratedRegex(
        @"\s*[,(]?\s*(?:or\s+|which\s+is\s+)?(?<!\\)\b(?:approximately|approx\.?|about|roughly|around)(?:\s+equal\s+to)?"
            + @"\s*\$?-?[\d.,]{1,30}\)?$"
            + @"|\s*\(\s*(?:≈|\\approx)\s*-?[\d.,]{1,30}\s*\)$",
        RegexOptions.IgnoreCase
    )]
    private static partial Regex Approximation();

    [GeneratedRegex(@"^\s*,?\s*(?:and|or)\s*$")]
    private static partial Regex Conjunction();

    [GeneratedRegex(@"^\s*(?:[,;]?\s*(?:and|or)|[,;])\s*$")]
    private static partial Regex ListSeparator();

    [GeneratedRegex(@"\b(?:is|are|equals|be)\b|:(?!\d)|=(?!>)")]
    private static partial Regex SaidMark();

    /// <summary>A number and what was counted: no second number, nothing that changes what the number means.</summary>
    [GeneratedRegex(
        @"^((?:\$|€|£)?-?\d[\d.,]*(?:/\d+)?(?:\s*(?:hundred|thousand|million|billion)\b)?)\s+"
            + @"\(?(?!(?:or|and|to|out|of|by|plus|minus|times|more|less|fewer|not|in|bc|ad|bce|ce|am|pm)\b)"
            + @"[A-Za-z]+(?:[ '’-]+[A-Za-z]+){0,5}\)?$",
        RegexOptions.IgnoreCase
    )]
    private static partial Regex Amount();

    /// <summary>2,74 $ a litre: a price, with more said about it.</summary>
    [GeneratedRegex(@"\d\s*[$€£]\s*[A-Za-z]")]
    private static partial Regex AmountBeforeWords();

    [GeneratedRegex(@"(?<![\w)\]}*])\*\*(?=\S)([^*\n]{1,500})(?<=\S)\*\*(?![\w(\[{*])")]
    private static partial Regex Emphasis();

    [GeneratedRegex(@"<(b|i|em|strong|u)>([^<>]{1,500})</\1>")]
    private static partial Regex Tag();

    [GeneratedRegex(@"\b(?:negative|minus)\s+(?=[\d$.])", RegexOptions.IgnoreCase)]
    private static partial Regex NegativeWord();

    [GeneratedRegex(
        @"^(?:#+|=+>?|≈|→|⇒|∴|•|\*\*|__|\\(?:approx|Rightarrow|implies|therefore|to)\b)\s*|(?<=\S)\s*(?:\*\*|__)$"
    )]
    private static partial Regex Mark();

    [GeneratedRegex(@"^(?:([""'*_])([^""'*_]+)\1|“([^”]+)”)$")]
    private static partial Regex Surrounded();
}
