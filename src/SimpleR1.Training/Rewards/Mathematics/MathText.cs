using System.Text.RegularExpressions;

namespace SimpleR1.Training.Rewards.Mathematics;

/// <summary>Finds the answer in a text, and cleans its notation for the parser. Nothing here knows mathematics.</summary>
internal static partial class MathText
{
    private const int MaxScan = 20_000;

    /// <summary>
    /// An answer as it stands in a text: several <see cref="Parts"/> when several boxes make it up; <see cref="Plain"/>
    /// when written outside LaTeX, where "2,74" may be a number.
    /// </summary>
    public sealed record Found(IReadOnlyList<string> Parts, bool Plain);

    /// <summary>
    /// The answer that a text ends on: after "final answer", else in \boxed{}, else in the last formula, else the whole
    /// text when it is nothing but an answer, else its last number.
    /// </summary>
    public static Found Find(string text)
    {
        if (text.Length > MaxScan)
            text = text[^MaxScan..];
        if (!text.Contains("\\begin"))
            text = DoubledBackslash().Replace(text, "\\");
        if (Stated(text) is { } stated)
            return stated;
        if (Boxed(text) is { Count: > 0 } boxed)
            return new(boxed, false);
        if (Formulas(text) is { Count: > 0 } formulas)
            return new([formulas[^1]], false);
        string whole = text.Trim().TrimStart('$');
        if (!IsProse(whole) || Number().Count(whole) == 0)
            return new([whole], !whole.Contains('\\'));
        int said = LastSaid(whole);
        if (whole.Contains('\\') && said > 0 && !IsProse(whole[said..]))
            return new([whole[said..]], false);
        return new([LastNumber(whole)!], true);
    }

    /// <summary>
    /// The last number in a text, with its fraction, percent sign and thousands separators; null without one.
    /// </summary>
    public static string? LastNumber(string text) =>
        Number().Matches(text.Length > MaxScan ? text[^MaxScan..] : text) is { Count: > 0 } numbers
            ? numbers[^1].Value
            : null;

    /// <summary>The content of the last \boxed{} of a text; null without one. Braces are matched.</summary>
    public static string? LastBoxed(string text) => Boxes(text) is { Count: > 0 } boxes ? boxes[^1].Content : null;

    /// <summary>What follows the last "final answer", up to the end of its sentence.</summary>
    private static Found? Stated(string text)
    {
        int at = text.LastIndexOf("final answer", StringComparison.OrdinalIgnoreCase);
        if (at < 0 || text.IndexOf("\\boxed", at, StringComparison.Ordinal) >= 0)
            return null;
        string sentence = text[at..];
        if (SentenceEnd().Match(sentence) is { Success: true } end)
            sentence = sentence[..end.Index];
        var formulas = Formula().Matches(sentence);
        var numbers = Number().Matches(sentence);
        // "the largest $n$ is 34": the later of the two is the answer
        if (formulas.Count > 0 && (numbers.Count == 0 || formulas[^1].Index + formulas[^1].Length > numbers[^1].Index))
            return new([Inner(formulas[^1])], false);
        return numbers.Count > 0 ? new([numbers[^1].Value], true) : null;
    }

    /// <summary>The last box, and those before it that belong to the same answer: "\boxed{1} and \boxed{2}".</summary>
    private static List<string> Boxed(string text)
    {
        var boxes = Boxes(text);
        var parts = new List<string>();
        for (int i = boxes.Count - 1; i >= 0; i--)
        {
            if (
                parts.Count > 0
                && (boxes[i].End > boxes[i + 1].Start || !Joined(text[boxes[i].End..boxes[i + 1].Start]))
            )
                break; // boxes in boxes, or apart
            parts.Insert(0, boxes[i].Content);
        }
        return parts;

        static bool Joined(string between) =>
            between.Length <= 80
            && !between.Contains('.')
            && (Connector().IsMatch(between) || !between.Any(char.IsLetterOrDigit));
    }

    private static List<(int Start, int End, string Content)> Boxes(string text)
    {
        var boxes = new List<(int, int, string)>();
        foreach (Match match in BoxStart().Matches(text))
        {
            int start = match.Index + match.Length;
            int end = start;
            int depth = 1;
            for (; end < text.Length && depth > 0; end++)
                depth += text[end] switch
                {
                    '{' => 1,
                    '}' => -1,
                    _ => 0,
                };
            if (depth == 0)
                boxes.Add((match.Index, end, text[start..(end - 1)]));
            else if (boxes.Count == 0)
                boxes.Add((match.Index, end, text[start..].Trim('$', ' '))); // the text ends before the brace
        }
        return boxes;
    }

    private static List<string> Formulas(string text) => [.. Formula().Matches(text).Select(Inner)];

    private static string Inner(Match formula) => formula.Groups.Cast<Group>().Skip(1).First(g => g.Success).Value;

    /// <summary>
    /// True when words make a text more than a formula: longer runs of letters that are neither functions nor commands.
    /// </summary>
    public static bool IsProse(string text) =>
        Letters().Matches(CommandOrText().Replace(text, " ")).Any(m => m.Length > 1 && !MathParser.IsWord(m.Value));

    private static int LastSaid(string text) =>
        Said().Matches(text) is { Count: > 0 } said ? said[^1].Index + said[^1].Length : 0;

    /// <summary>
    /// Removes notation that only spaces, sizes or decorates, and units and other words when something else is left.
    /// </summary>
    public static string Clean(string text)
    {
        text = NegativeSpace()
            .Replace(text, "")
            .Replace("\\$", "")
            .Replace("\\%", "%")
            .Replace("{,}", ",")
            .Replace("\\left", "")
            .Replace("\\right", "")
            .Replace("\\&", " ");
        text = text.Replace('−', '-')
            .Replace('–', '-')
            .Replace("×", "*")
            .Replace("·", "*")
            .Replace("÷", "/")
            .Replace("²", "^2")
            .Replace("³", "^3")
            .Replace("π", "\\pi ")
            .Replace("≡", "=");
        text = Spacing().Replace(text, " ");
        text = Fraction().Replace(text, "\\frac");
        text = Degrees().Replace(text, "");
        text = Operator().Replace(text, "$1");
        text = Array().Replace(text, "$1");
        text = ConnectingText().Replace(text, " , ");
        string withoutUnits = TextBlock().Replace(text, " ");
        text = withoutUnits.Trim(' ', '.', ',') == "" ? TextBlock().Replace(text, "$1") : withoutUnits;
        text = PercentWord().Replace(text, "%");
        text = Unit().Replace(text, "");
        return text.Replace("$", "").Replace("€", "").Replace("£", "").Trim().TrimEnd('.', ',', ';', ':').Trim();
    }

    /// <summary>
    /// The text for comparing answers that are words: letters and digits only, without brackets around a choice such as
    /// (A). Case matters only for single letters.
    /// </summary>
    public static string Words(string text)
    {
        string words = NotWords().Replace(TextBlock().Replace(text, "$1"), "");
        return words.Length > 1 ? words.ToLowerInvariant() : words;
    }

    [GeneratedRegex(@"(?<!\\)\\\\(?=[a-zA-Z]{2})")]
    private static partial Regex DoubledBackslash();

    [GeneratedRegex(@"\$\$(.+?)\$\$|(?<!\\)\$((?:[^$\\]|\\.)+)\$|\\\[(.+?)\\\]|\\\((.+?)\\\)", RegexOptions.Singleline)]
    private static partial Regex Formula();

    [GeneratedRegex(
        @"(?<![\d.,])-?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?: \d{3})+(?![\d,.])|\d+(?:[.,]\d+)?|\.\d+)"
            + @"(?:\s*/\s*\d+)?(?:\s*(?:\\?%|percent\b|pct\b))?"
            + @"|(?<=[^\d,.])-?\d+(?:\.\d+)?"
    )]
    private static partial Regex Number();

    [GeneratedRegex(@"[.!](?:\s+[A-Z]|\s*<\||\s*$)|\n\n")]
    private static partial Regex SentenceEnd();

    [GeneratedRegex(@"\\f?boxed\s*\{")]
    private static partial Regex BoxStart();

    [GeneratedRegex(@"\b(?:and|or)\b|^[\s$\\()]*[,;][\s$\\()]*$|^[^a-zA-Z]*,")]
    private static partial Regex Connector();

    [GeneratedRegex(@"[A-Za-z]+")]
    private static partial Regex Letters();

    [GeneratedRegex(@"\\(?:text|mbox|textbf|textit|textnormal|mathrm|begin|end)\s*\{[^{}]*\}|\\[a-zA-Z]+|_\{[^{}]*\}")]
    private static partial Regex CommandOrText();

    [GeneratedRegex(@"\b(?:is|are|equals|be)\b|:|=")]
    private static partial Regex Said();

    [GeneratedRegex(
        @"(?<!\\)\\(?:[,;: ]|quad\b|qquad\b|displaystyle\b|textstyle\b|limits\b|[bB]igg?[lr]?(?![a-zA-Z]))|\\\\\s*$"
    )]
    private static partial Regex Spacing();

    [GeneratedRegex(@"\\!\s*")]
    private static partial Regex NegativeSpace();

    [GeneratedRegex(@"\\[dtc]frac(?![a-zA-Z])")]
    private static partial Regex Fraction();

    [GeneratedRegex(@"\^\s*\{?\s*\\circ\s*\}?|\\degree\b|°|\bdegrees?\b")]
    private static partial Regex Degrees();

    [GeneratedRegex(@"\\operatorname\s*\{([^{}]*)\}")]
    private static partial Regex Operator();

    [GeneratedRegex(@"[(\[]\s*(\\begin\{array\}.*?\\end\{array\})\s*[)\]]", RegexOptions.Singleline)]
    private static partial Regex Array();

    [GeneratedRegex(@"\\(?:text|mbox|textnormal|textrm|mathrm)\s*\{\s*,?\s*(?:and|or)\s*\}")]
    private static partial Regex ConnectingText();

    [GeneratedRegex(
        @"\\(?:text|mbox|textbf|textit|textrm|textnormal|textsf|mathrm)\s*\{([^{}]*)\}(?:\s*\^\s*(?:\{\s*\d\s*\}|\d))?"
    )]
    private static partial Regex TextBlock();

    [GeneratedRegex(@"\s*(?:\bpercent\b|\bpct\b)", RegexOptions.IgnoreCase)]
    private static partial Regex PercentWord();

    [GeneratedRegex(
        @"(?<=[\d}])\s*\b(?:mm|cm|km|meters?|metres?|miles?|inch(?:es)?|feet|foot|ft|kg|grams?"
            + @"|hours?|minutes?|seconds?|days?|weeks?|months?|years?|dollars?|cents?|units?|people|students?|points?|ways?"
            + @"|mph|km/h|m/s)\b(?:\s*\^\s*\{?\d\}?)?"
            + @"|(?<=\d)\s*°[CF]?",
        RegexOptions.IgnoreCase
    )]
    private static partial Regex Unit();

    [GeneratedRegex(@"\\[a-zA-Z]+|[^\p{L}\p{N}]")]
    private static partial Regex NotWords();
}
