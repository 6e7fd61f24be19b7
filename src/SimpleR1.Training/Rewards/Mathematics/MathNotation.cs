using System.Text.RegularExpressions;

namespace SimpleR1.Training.Rewards.Mathematics;

/// <summary>Cleans an answer's notation for the parser. Nothing here knows mathematics.</summary>
internal static partial class MathNotation
{
    private const int MaxLength = 2000; // the parser refuses what is half as long

    /// <summary>An answer for the parser, and the unit that it was given in; null without a known one.</summary>
    public sealed record Cleaned(string Text, Unit? Unit);

    /// <summary>
    /// Removes notation that only spaces, sizes or decorates, and units and other words when something else is left.
    /// </summary>
    public static Cleaned Clean(string text)
    {
        if (text.Length > MaxLength)
            return new(text, null);
        bool hasDollar = Dollar().IsMatch(text);
        text = Numbers(Symbols(text));

        // The unit at the end, in words or in \text{}
        Unit? unit = null;
        if (LastText().Match(text) is { Success: true } last && last.Index > 0)
        {
            unit = Mathematics.Unit.Parse(
                last.Groups[1].Value + (last.Groups[2].Success ? "^" + last.Groups[2].Value : "")
            );
            text = unit is null ? text : text[..last.Index];
        }
        string withoutText = TextBlock().Replace(text, m => Prose.Negates(m.Groups[1].Value) ? m.Groups[1].Value : " ");
        text = withoutText.Trim(' ', '.', ',') == "" ? TextBlock().Replace(text, "$1") : withoutText;
        text = text.Replace("$", "").Replace("€", "").Replace("£", "").Trim().TrimEnd('.', ',', ';', ':').Trim();
        if (unit is null && Mathematics.Unit.AtEnd(text) is { } measured)
        {
            text = measured.Amount;
            unit = measured.Unit;
        }
        if (unit is null && hasDollar)
            unit = Mathematics.Unit.Parse("dollar");
        text = InnerUnit().Replace(text, "");
        return new(NumberWords.Digits(text) ?? text, unit);
    }

    /// <summary>One sign for each operation and each kind of space.</summary>
    private static string Symbols(string text)
    {
        text = NegativeSpace()
            .Replace(text, "")
            .Replace("\\$", "")
            .Replace("\\%", "%")
            .Replace("{,}", ",")
            .Replace("\\left", "")
            .Replace("\\right", "")
            .Replace("\\&", " ")
            .Replace("~", " ");
        text = text.Replace('−', '-')
            .Replace('–', '-')
            .Replace("×", "*")
            .Replace("·", "*")
            .Replace("÷", "/")
            .Replace("²", "^2")
            .Replace("³", "^3")
            .Replace("π", "\\pi ")
            .Replace("≡", "=");
        return Spacing().Replace(text, " ");
    }

    /// <summary>Fractions, degrees, names, words for powers of ten.</summary>
    private static string Numbers(string text)
    {
        text = Fraction().Replace(text, "\\frac");
        text = Temperature().Replace(text, m => " °" + m.Groups[1].Value[0]);
        text = Degrees().Replace(text, "");
        text = Operator().Replace(text, "$1");
        text = Array().Replace(text, "$1");
        text = ConnectingText().Replace(text, " , ");
        text = Scale().Replace(text, m => $"*10^{Zeros(m.Groups[1].Value)} ");
        text = MixedNumber().Replace(text, "$1\\frac{$2}{$3}");
        return PercentWord().Replace(text, "%");
    }

    private static int Zeros(string word) =>
        word.ToLowerInvariant() switch
        {
            "hundred" => 2,
            "thousand" => 3,
            "million" => 6,
            "billion" => 9,
            _ => 12,
        };

    [GeneratedRegex(
        @"(?<!\\)\\(?:[,;: ]|quad\b|qquad\b|displaystyle\b|textstyle\b|limits\b|[bB]igg?[lr]?(?![a-zA-Z]))|\\\\\s*$"
    )]
    private static partial Regex Spacing();

    [GeneratedRegex(@"\\!\s*")]
    private static partial Regex NegativeSpace();

    [GeneratedRegex(@"\\[dtc]frac(?![a-zA-Z])")]
    private static partial Regex Fraction();

    [GeneratedRegex(@"\^\s*\{?\s*\\circ\s*\}?|\\degree\b|°(?![CF]\b)|\bdegrees?\b")]
    private static partial Regex Degrees();

    [GeneratedRegex(
        @"\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree\b|°|\bdegrees?\b)\s*(?:\\(?:text|mathrm)\s*\{\s*)?\b(C|F|Celsius|Fahrenheit)\b\s*\}?"
    )]
    private static partial Regex Temperature();

    [GeneratedRegex(@"^\s*\\?\$\s*(?=[\d.])")]
    private static partial Regex Dollar();

    [GeneratedRegex(
        @"(?<=\d)\s*(?:\\text\s*\{\s*)?\b(hundred|thousand|million|billion|trillion)\b\s*\}?",
        RegexOptions.IgnoreCase
    )]
    private static partial Regex Scale();

    /// <summary>1 1/2 is one and a half.</summary>
    [GeneratedRegex(@"(?<![\d.,/])(\d{1,15})\s+(\d{1,15})/(\d{1,15})(?![\d.,/])")]
    private static partial Regex MixedNumber();

    [GeneratedRegex(
        @"\s*\\(?:text|mbox|textrm|textnormal|textsf|mathrm)\s*\{\s*([^{}]*)\}(?:\s*\^\s*\{?\s*([23])\s*\}?)?[\s.]*$"
    )]
    private static partial Regex LastText();

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
    private static partial Regex InnerUnit();
}
