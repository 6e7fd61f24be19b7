using System.Text.RegularExpressions;

namespace SimpleR1.Training.Rewards.Mathematics;

/// <summary>
/// Decides whether two answers mean the same: numbers, fractions, percentages, units, tuples, sets, intervals,
/// matrices, equations, inequalities and expressions with unknowns, in LaTeX or plain notation. Expressions are
/// compared by their values at several points, exactly when they are fractions. The length of the text bounds the time,
/// and no text makes it throw.
/// </summary>
public static partial class MathAnswers
{
    /// <summary>
    /// True when <paramref name="prediction"/> states the same answer as <paramref name="gold"/>; either may be a bare
    /// answer or a text that ends on one. <paramref name="decimals"/> must agree when an answer is not a whole number.
    /// With <paramref name="calculated"/> a gold number must be answered by a number, not by a calculation that equals
    /// it: otherwise a policy learns to hand the question back.
    /// </summary>
    public static bool Match(string gold, string prediction, int decimals = 6, bool calculated = false)
    {
        if (string.IsNullOrWhiteSpace(gold) || string.IsNullOrWhiteSpace(prediction))
            return false;
        var wanted = MathText.Find(gold);
        var found = MathText.Find(prediction);
        string goldText = string.Join(",", wanted.Parts);
        string foundText = string.Join(",", found.Parts);
        if (Squeeze().Replace(goldText, "") == Squeeze().Replace(foundText, ""))
            return true;
        var equality = new MathEquality(decimals, calculated);
        var readings = Readings(found);
        if (Readings(wanted).Any(g => readings.Any(p => equality.Same(g, p))))
            return true;
        bool words = !goldText.Any(char.IsAsciiDigit) && MathText.Words(goldText) is { Length: > 0 };
        return words
            && MathText.Words(goldText) == MathText.Words(foundText)
            && !Symbols().IsMatch(goldText + foundText);
    }

    /// <summary>The last number in a text; null without one.</summary>
    public static string? LastNumber(string text) => MathText.LastNumber(text);

    /// <summary>What an answer may mean. "1,234" is a number, or two; outside LaTeX "2,74" is a decimal, or two.</summary>
    private static List<MathNode> Readings(MathText.Found found)
    {
        var cleaned = found.Parts.Select(MathText.Clean).ToArray();
        var readings = new List<MathNode>();
        Add(text => Thousands().Replace(text, m => m.Value.Replace(",", "").Replace(" ", "")));
        if (cleaned.Any(text => Thousands().IsMatch(text)))
            Add(text => text);
        if (found.Plain && cleaned is [var single] && DecimalComma().IsMatch(single))
            Add(text => text.Replace(',', '.'));
        return readings;

        void Add(Func<string, string> read)
        {
            var parts = cleaned.Select(text => MathParser.Parse(read(text))).ToArray();
            if (parts.All(p => p is not null))
                readings.Add(parts.Length == 1 ? parts[0]! : MathNode.Of(MathKind.List, parts!));
        }
    }

    [GeneratedRegex(@"[\s$]+|\\[,;:! ]|\\left|\\right")]
    private static partial Regex Squeeze();

    [GeneratedRegex(
        @"(?<![\d.,\w])\d{1,3}(?:(?:,\s?(?=\d{3},\s)|,)\d{3})+(?![\d])(?!,\d)|(?<![\d.,\w])\d{1,3}(?: \d{3})+(?![\d])"
    )]
    private static partial Regex Thousands();

    [GeneratedRegex(@"^-?\d+,\d+$")]
    private static partial Regex DecimalComma();

    [GeneratedRegex(@"[=<>+^*/\\]|\d")]
    private static partial Regex Symbols();
}
