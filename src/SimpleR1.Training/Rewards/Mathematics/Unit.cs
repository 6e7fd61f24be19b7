using System.Text.RegularExpressions;

namespace SimpleR1.Training.Rewards.Mathematics;

/// <summary>A unit of measurement, such as cm^2 or miles per hour.</summary>
/// <param name="Dimension">What it measures, as the powers of its base units: "L2", "L1 T-1".</param>
/// <param name="Factor">Base units in one of it.</param>
internal sealed partial record Unit(string Dimension, double Factor)
{
    private const int MaxLength = 60;

    /// <summary>Name = base unit and factor. A base unit of "" counts things, which measures nothing.</summary>
    private static readonly Dictionary<string, (string Base, double Factor)> Known = Table(
        "L:mm .001,millimeter .001,millimetre .001,cm .01,centimeter .01,centimetre .01,dm .1,m 1,meter 1,metre 1,"
            + "km 1000,kilometer 1000,kilometre 1000,inch .0254,inches .0254,foot .3048,feet .3048,ft .3048,yd .9144,"
            + "yard .9144,mi 1609.344,mile 1609.344",
        "M:mg .001,g 1,gram 1,kg 1000,kilogram 1000,lb 453.59237,pound 453.59237,oz 28.349523125,ounce 28.349523125",
        "T:s 1,sec 1,second 1,min 60,minute 60,h 3600,hr 3600,hour 3600,day 86400,week 604800",
        "Y:month 1,year 12,yr 12",
        "V:ml .001,milliliter .001,millilitre .001,l 1,liter 1,litre 1",
        "G:gallon 1,quart .25,pint .125,cup .0625",
        "$:dollar 1,buck 1,usd 1,cent .01",
        "€:euro 1,eur 1",
        "¥:yuan 1,yen 1,rmb 1",
        "₹:rupee 1,rs 1",
        "°C:°C 1,celsius 1",
        "°F:°F 1,fahrenheit 1",
        "rad:radian 1,rad 1",
        ":unit 1,people 1,person 1,student 1,point 1,pt 1,way 1,item 1,piece 1,time 1"
    );

    /// <summary>Splits a text into what is measured and the unit at its end; null when it ends on no known unit.</summary>
    public static (string Amount, Unit Unit)? AtEnd(string text)
    {
        int from = Math.Max(0, text.Length - MaxLength);
        var match = Ending().Match(text, from, text.Length - from);
        if (!match.Success || Parse(match.Groups[1].Value) is not { } unit)
            return null;
        string rest = text[..match.Index].TrimEnd();
        return rest == "" ? null : (rest, unit);
    }

    /// <summary>A number with a single letter for its unit directly after it, 350g; null for any other text.</summary>
    public static (string Amount, Unit Unit)? Attached(string text) =>
        Letter().Match(text) is { Success: true } m && Parse(m.Groups[2].Value) is { } unit
            ? (m.Groups[1].Value, unit)
            : null;

    /// <summary>A text that is a unit and nothing else; null for any other.</summary>
    public static Unit? Parse(string text)
    {
        if (text.Length > MaxLength)
            return null;
        if (Speed(text.Trim()) is { } speed)
            return speed;
        double factor = 1;
        var powers = new SortedDictionary<string, int>(StringComparer.Ordinal);
        bool below = false; // after "per"
        bool any = false;
        string[] parts = Joint().Split(text.Trim());
        for (int i = 0; i < parts.Length; i++)
        {
            if (parts[i] is "/" or "per" or "a" or "an" or "each")
                below = true;
            else if (Power().Match(parts[i]) is { Success: true } m && Find(m.Groups[2].Value) is { } known)
            {
                any = true;
                int power = Exponent(m.Groups[1].Value + m.Groups[3].Value) * (below ? -1 : 1);
                factor *= Math.Pow(known.Factor, power);
                if (known.Base != "")
                    powers[known.Base] = powers.GetValueOrDefault(known.Base) + power;
            }
            else if (parts[i] != "*" && parts[i] != "")
                return null;
        }
        return !any
            ? null
            : new(string.Join(' ', powers.Where(p => p.Value != 0).Select(p => p.Key + p.Value)), factor);
    }

    private static Unit? Speed(string text) =>
        text.ToLowerInvariant() switch
        {
            "mph" => Parse("mile/hour"),
            "kph" or "kmh" => Parse("km/hour"),
            _ => null,
        };

    private static (string Base, double Factor)? Find(string name)
    {
        string lower = name.Length == 1 || name.StartsWith('°') ? name : name.ToLowerInvariant();
        if (lower == "L" || lower == "S")
            lower = lower.ToLowerInvariant();
        if (Known.TryGetValue(lower, out var unit))
            return unit;
        bool isPlural = lower.Length > 2 && lower.EndsWith('s') && Known.TryGetValue(lower[..^1], out unit);
        return isPlural ? unit : null;
    }

    private static int Exponent(string text)
    {
        if (text.Contains("cu", StringComparison.OrdinalIgnoreCase) || text.Contains('3'))
            return 3;
        return text.Contains("sq", StringComparison.OrdinalIgnoreCase) || text.Contains('2') ? 2 : 1;
    }

    private static Dictionary<string, (string, double)> Table(params string[] rows)
    {
        var table = new Dictionary<string, (string, double)>();
        foreach (string row in rows)
        {
            int colon = row.IndexOf(':');
            foreach (string entry in row[(colon + 1)..].Split(','))
            {
                string[] fields = entry.Split(' ');
                double factor = double.Parse(fields[1], System.Globalization.CultureInfo.InvariantCulture);
                table[fields[0]] = (row[..colon], factor);
            }
        }
        return table;
    }

    [GeneratedRegex(@"^\s*(-?[\d.,]{1,30})([gmshlL])[\s.]*$")]
    private static partial Regex Letter();

    /// <summary>
    /// Units at the end of a text. A single letter is a unit only after a space: 5 m is a length, 5m may be a product.
    /// </summary>
    [GeneratedRegex(
        @"(?:(?<=[\d}!)])\s*\(\s*|(?<=[\d}!)])\s*(?=[A-Za-z°]{2})|(?<=[\d})!])\s+|(?<=\w)\s+(?=[A-Za-z]{2}))"
            + @"((?:(?:square|cubic|sq\.?|cu\.?)\s+)?(?:°[CF]|[A-Za-z]+)\.?(?:\s*\^\s*\{?[23]\}?)?"
            + @"(?:\s*(?:/|\*|\s)\s*(?:(?:per|an?|each)\s+)?(?:[A-Za-z]+)\.?(?:\s*\^\s*\{?[23]\}?)?){0,3})\s*\)?\s*$"
    )]
    private static partial Regex Ending();

    [GeneratedRegex(@"^((?:square|cubic|sq|cu)\.?\s+)?(°[CF]|[A-Za-z]+)\.?\s*((?:\^\s*\{?[23]\}?)?)$")]
    private static partial Regex Power();

    [GeneratedRegex(
        @"\s*([/*])\s*|\s+(?=per\b|an?\b|each\b)|(?<=\b(?:per|an?|each))\s+|(?<!\b(?:square|cubic|sq\.?|cu\.?))\s+(?!\^)"
    )]
    private static partial Regex Joint();
}
