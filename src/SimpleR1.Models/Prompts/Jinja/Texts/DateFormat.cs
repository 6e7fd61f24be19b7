using System.Globalization;
using System.Text;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Texts;

/// <summary>Python's strftime, in English.</summary>
internal static class DateFormat
{
    /// <exception cref="ValueException">A directive is not supported.</exception>
    public static string Apply(DateTime time, string format)
    {
        var text = new StringBuilder();
        for (int i = 0; i < format.Length; i++)
        {
            if (format[i] != '%' || i + 1 == format.Length)
            {
                text.Append(format[i]);
                continue;
            }
            bool isPlain = format[++i] == '-' && i + 1 < format.Length; // %-d is without a leading zero
            if (isPlain)
                i++;
            string part = Directive(time, format[i]);
            text.Append(isPlain && part.Length > 1 ? part.TrimStart('0').PadLeft(1, '0') : part);
        }
        return text.ToString();
    }

    private static string Directive(DateTime time, char directive)
    {
        string? pattern = directive switch
        {
            'a' => "ddd",
            'A' => "dddd",
            'b' or 'h' => "MMM",
            'B' => "MMMM",
            'd' => "dd",
            'D' => "MM'/'dd'/'yy",
            'f' => "ffffff",
            'F' => "yyyy'-'MM'-'dd",
            'H' => "HH",
            'I' => "hh",
            'm' => "MM",
            'M' => "mm",
            'p' => "tt",
            'R' => "HH':'mm",
            'S' => "ss",
            'T' => "HH':'mm':'ss",
            'y' => "yy",
            'Y' => "yyyy",
            _ => null,
        };
        if (pattern is not null)
            return time.ToString(pattern, CultureInfo.InvariantCulture);
        return directive switch
        {
            '%' => "%",
            'e' => time.Day.ToString(CultureInfo.InvariantCulture).PadLeft(2),
            'j' => time.DayOfYear.ToString("000", CultureInfo.InvariantCulture),
            'n' => "\n",
            't' => "\t",
            'w' => ((int)time.DayOfWeek).ToString(CultureInfo.InvariantCulture),
            _ => throw new ValueException($"strftime_now: the directive %{directive} is not supported"),
        };
    }
}
