using System.Globalization;
using System.Text.RegularExpressions;

namespace SimpleR1.Training.Rewards.Mathematics;

/// <summary>A sum of measured parts, such as 3 hours and 20 minutes, in base units; or a time of day, in minutes.</summary>
internal sealed partial record Quantity(string Dimension, double Value)
{
    private const string TimeOfDay = "time of day";

    public bool IsTimeOfDay => Dimension == TimeOfDay;

    /// <summary>The quantity that all of a text states; null when it is no sum of parts and no time of day.</summary>
    public static Quantity? Parse(string text) =>
        Last(text) is { } last && text[..last.Start].Trim(' ', '$') == "" && text[last.End..].Trim(' ', '.', '$') == ""
            ? last.Quantity
            : null;

    /// <summary>The last quantity in a text, if no number follows it.</summary>
    public static Quantity? AtEnd(string text) =>
        Last(text) is { } last && !text[last.End..].Any(char.IsAsciiDigit) && !Prose.Denies(text, last.Start, last.End)
            ? last.Quantity
            : null;

    /// <summary>
    /// A single amount of what another quantity measures: 200 minutes next to 3 hours and 20 minutes, 14:30 next to
    /// 2:30 PM, and 5.20 next to $5 and 20 cents. Null for any other text.
    /// </summary>
    public static Quantity? Single(string text, Quantity other)
    {
        if (other.IsTimeOfDay)
            return DayTime().Match(text) is { Success: true } clock ? TimeAt(clock) : null;
        var measured = Unit.AtEnd(text.Trim().TrimEnd('.'));
        string amount = (measured?.Amount ?? text).Trim(' ', '.', '$', '\\');
        var unit = measured?.Unit ?? (other.Dimension == "$1" ? Unit.Parse("dollar") : null);
        bool isNumber = double.TryParse(amount, NumberStyles.Float, CultureInfo.InvariantCulture, out double value);
        return unit is not null && isNumber ? new(unit.Dimension, value * unit.Factor) : null;
    }

    public bool Same(Quantity other) =>
        Dimension == other.Dimension && Math.Abs(Value - other.Value) <= 1e-9 * Math.Max(1, Math.Abs(Value));

    private static (Quantity Quantity, int Start, int End)? Last(string text)
    {
        if (Clock().Matches(text) is { Count: > 0 } clocks && TimeAt(clocks[^1]) is { } time)
            return (time, clocks[^1].Index, clocks[^1].Index + clocks[^1].Length);
        if (Parts().Matches(text) is not { Count: > 0 } runs)
            return null;
        var run = runs[^1];
        double sum = 0;
        double smallest = double.PositiveInfinity;
        string? dimension = null;
        var amounts = run.Groups["amount"].Captures;
        for (int i = 0; i < amounts.Count; i++)
        {
            bool hasSign = run.Groups["sign"].Captures.Any(c => c.Index == amounts[i].Index - 1);
            var unit = hasSign ? Unit.Parse("dollar") : Unit.Parse(run.Groups["unit"].Captures[i].Value);
            if (
                unit is null
                || unit.Factor >= smallest
                || unit.Dimension == ""
                || unit.Dimension != (dimension ??= unit.Dimension)
            )
                return null; // "5 hours, 20 days" is a list
            sum += unit.Factor * double.Parse(amounts[i].Value.Replace(",", ""), CultureInfo.InvariantCulture);
            smallest = unit.Factor;
        }
        return (new(dimension!, sum), run.Index, run.Index + run.Length);
    }

    private static Quantity? TimeAt(Match clock)
    {
        int hour = int.Parse(clock.Groups["hour"].Value, CultureInfo.InvariantCulture);
        string minutes = clock.Groups["minute"].Value;
        int minute = minutes == "" ? 0 : int.Parse(minutes, CultureInfo.InvariantCulture);
        string half = clock.Groups["half"].Value.ToLowerInvariant();
        if (minute > 59 || hour > 23 || half != "" && hour is 0 or > 12)
            return null;
        if (half != "")
            hour = hour % 12 + (half == "p" ? 12 : 0);
        return new(TimeOfDay, 60 * hour + minute);
    }

    /// <summary>12:30 PM, 5 p.m.; 14:30 is a time of day only next to one of these.</summary>
    [GeneratedRegex(
        @"(?<![\d:.,])(?<hour>\d{1,2})(?::(?<minute>\d{2}))?(?::00)?\s*(?<half>[ap])\.?\s?m\b\.?",
        RegexOptions.IgnoreCase
    )]
    private static partial Regex Clock();

    /// <summary>A time of day that needs no AM or PM.</summary>
    [GeneratedRegex(@"^\s*(?<hour>1[3-9]|2[0-3]|00):(?<minute>[0-5]\d)(?::00)?(?<half>)[\s.]*$")]
    private static partial Regex DayTime();

    /// <summary>Two to four amounts with units, the largest first.</summary>
    [GeneratedRegex(
        @"(?<![\d.,])(?<sign>\$)?(?<amount>\d{1,12}(?:,\d{3}){0,3}(?:\.\d{1,12})?)\s*(?<unit>[a-z]{1,12}\b\.?|(?=\sand))"
            + @"(?:\s*,?\s*(?:and\s+)?(?<sign>\$)?(?<amount>\d{1,12}(?:\.\d{1,12})?)\s*(?<unit>[a-z]{1,12})\b\.?){1,3}",
        RegexOptions.IgnoreCase
    )]
    private static partial Regex Parts();
}
