using System.Text.RegularExpressions;
using SimpleR1.Training.Rewards.Mathematics.Expressions;

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
        var wanted = MathText.Find(gold, isGold: true);
        var found = MathText.Find(prediction);
        if (SameWords(wanted, found))
            return true;
        if (SameQuantity(wanted, found) is { } same)
            return same;
        if (Squeeze(wanted.Parts) == Squeeze(found.Parts))
            return true;
        try
        {
            return SameReading(wanted, found, decimals, calculated);
        }
        catch (WorkBudget.SpentException)
        {
            return false;
        }
    }

    /// <summary>The last number in a text; null without one, and when the text says that it is not the number.</summary>
    public static string? LastNumber(string text) => MathText.LastNumber(text);

    private static bool SameReading(MathText.Found wanted, MathText.Found found, int decimals, bool calculated)
    {
        var equality = new MathEquality(decimals, calculated, new WorkBudget());
        var golds = Readings(wanted.Parts, wanted.Plain);
        var answers = Readings(found.Parts, found.Plain);
        if (answers.Count == 0 && found.Number is { } number)
            answers = Readings([number], true);
        if (golds.Any(g => g.Unit is not null) && found.Parts is [var part] && Unit.Attached(part) is { } attached)
            answers.AddRange(Readings([attached.Amount], true).Select(a => a with { Unit = attached.Unit }));
        if (wanted.IsWords && found.Whole is { } whole)
            answers = [.. Readings([whole], false), .. found.Said is { } said ? Readings([said], false) : []];
        return golds.Any(g => answers.Any(a => SameUnits(g, a) is { } pair && equality.Same(pair.Gold, pair.Answer)));
    }

    /// <summary>
    /// The two answers in one unit; null when their units measure different things. An answer without a unit is meant
    /// in the other's.
    /// </summary>
    private static (MathNode Gold, MathNode Answer)? SameUnits(Reading gold, Reading answer)
    {
        if (
            gold.Unit is not { } wanted
            || answer.Unit is not { } found
            || wanted.Dimension == ""
            || found.Dimension == ""
        )
            return (gold.Node, answer.Node);
        if (wanted.Dimension != found.Dimension)
            return null;
        if (wanted.Factor == found.Factor)
            return (gold.Node, answer.Node);
        if (answer.Node is not { Kind: MathKind.Number, Value: var value })
            return null;
        double scaled = value.ToDouble() * found.Factor / wanted.Factor;
        return Rational.Rounded(scaled) is { } converted ? (gold.Node, MathNode.Number(converted)) : null;
    }

    /// <summary>
    /// Compares sums of measured parts and times of day, which no formula states; null when neither answer is one.
    /// </summary>
    private static bool? SameQuantity(MathText.Found wanted, MathText.Found found)
    {
        string goldText = string.Join(", ", wanted.Parts);
        string foundText = found.Whole ?? string.Join(", ", found.Parts);
        var gold = Quantity.Parse(goldText);
        var answer = Quantity.AtEnd(foundText);
        if (gold is null && answer is null)
            return null;
        if (gold is not null)
            return (answer ?? Quantity.Single(foundText, gold)) is { } stated && gold.Same(stated);
        if (answer!.IsTimeOfDay)
            return null; // 5 pm may answer 5
        return Quantity.Single(goldText, answer) is { } single && single.Same(answer);
    }

    private static bool SameWords(MathText.Found wanted, MathText.Found found)
    {
        string gold = wanted.IsWords ? wanted.Whole! : string.Join(", ", wanted.Parts);
        return Prose.Same(gold, string.Join(", ", found.Parts))
            || found.Whole is { } whole && Prose.Same(gold, whole)
            || found.Said is { } said && Prose.Same(gold, said);
    }

    /// <summary>What an answer may mean, and in which unit.</summary>
    private readonly record struct Reading(MathNode Node, Unit? Unit);

    /// <summary>What an answer may mean. "1,234" is a number, or two; outside LaTeX "2,74" is a decimal, or two.</summary>
    private static List<Reading> Readings(IReadOnlyList<string> answer, bool isPlain)
    {
        var cleaned = answer.Select(MathNotation.Clean).ToArray();
        var readings = new List<Reading>();
        bool isGrouped = cleaned.Any(part => Thousands().IsMatch(part.Text));
        Add(text => Thousands().Replace(text, m => m.Value.Replace(",", "").Replace(" ", "")));
        if (isGrouped && !cleaned.Any(part => ZeroGroup().IsMatch(part.Text)))
            Add(text => text);
        if (isPlain && !isGrouped && cleaned is [var single] && DecimalComma().IsMatch(single.Text))
            Add(text => text.Replace(',', '.'));
        return readings;

        void Add(Func<string, string> read)
        {
            var parts = cleaned.Select(part => MathParser.Parse(read(part.Text))).ToArray();
            if (parts.All(p => p is not null))
                readings.Add(
                    parts.Length == 1 ? new(parts[0]!, cleaned[0].Unit) : new(MathNode.Of(MathKind.List, parts!), null)
                );
        }
    }

    private static string Squeeze(IReadOnlyList<string> parts) => Spaces().Replace(string.Join(",", parts), "");

    [GeneratedRegex(@"[\s$]+|\\[,;:! ]|\\left|\\right")]
    private static partial Regex Spaces();

    [GeneratedRegex(
        @"(?<![\d.,\w])[1-9]\d{0,2}(?:(?:,\s?(?=\d{3},\s)|,)\d{3})+(?![\d])(?!,\d)|(?<![\d.,\w])[1-9]\d{0,2}(?: \d{3})+(?![\d])"
    )]
    private static partial Regex Thousands();

    [GeneratedRegex(@"^-?\d+,\d+$")]
    private static partial Regex DecimalComma();

    /// <summary>A group that is no number by itself: 25,000 is not 25 and 0.</summary>
    [GeneratedRegex(@"[, ]0\d\d(?!\d)")]
    private static partial Regex ZeroGroup();
}
