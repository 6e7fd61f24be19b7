using System.Globalization;
using System.Numerics;
using System.Text;
using System.Text.RegularExpressions;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Texts;

/// <summary>Python's % on texts, for the conversions s, r, d, i, u, f, F, x, X, o and c.</summary>
internal static partial class PercentFormat
{
    /// <param name="format">A text such as "%s has %d".</param>
    /// <param name="values">A tuple, a dict for %(name)s, or a single value.</param>
    /// <exception cref="ValueException">A conversion is not supported, or the values do not fit.</exception>
    public static string Apply(string format, object values)
    {
        var queue = new Queue<object>(values is Values.Sequence { IsTuple: true } tuple ? tuple.Items : [values]);
        if (Conversion().Replace(format, "").Contains('%'))
            throw new ValueException("incomplete or unsupported format");
        string text = Conversion().Replace(format, match => Convert(match, values, queue));
        if (queue.Count > 0 && values is not (Mapping or Values.Sequence { IsTuple: false }))
            throw new ValueException("not all arguments converted during string formatting");
        return Meter.Text(text);
    }

    private static string Convert(Match match, object values, Queue<object> queue)
    {
        string kind = match.Groups["kind"].Value;
        if (kind == "%")
            return "%";
        var name = match.Groups["name"];
        object value = name.Success ? Named(values, name.Value) : Next(queue);
        string flags = match.Groups["flags"].Value;
        int? precision = match.Groups["precision"].Success ? Size(match.Groups["precision"].Value) : null;
        string text = kind switch
        {
            "s" or "r" => Cut(kind == "s" ? PythonText.Of(value) : PythonText.Repr(value), precision),
            "c" => value is BigInteger code ? new Rune((int)code).ToString() : PythonText.Plain(value),
            _ => Number(value, kind, precision, flags),
        };
        return Pad(text, flags, Size(match.Groups["width"].Value), isNumber: kind is not ("s" or "r" or "c"));
    }

    private static object Named(object values, string name)
    {
        if (values is not Mapping mapping)
            throw new ValueException("format requires a mapping");
        return mapping.Entries.TryGetValue(name, out object? value)
            ? value
            : throw new ValueException($"key '{name}' is missing");
    }

    private static object Next(Queue<object> values) =>
        values.TryDequeue(out object? next) ? next : throw new ValueException("not enough arguments for format string");

    private static int Size(string digits)
    {
        if (digits.Length > 5)
            throw new ValueException("the width of a format is too large");
        return digits.Length == 0 ? 0 : int.Parse(digits, CultureInfo.InvariantCulture);
    }

    private static string Cut(string text, int? precision) =>
        precision is { } most ? string.Concat(PythonText.Characters(text).Take(most)) : text;

    private static string Number(object value, string kind, int? precision, string flags)
    {
        if (!Numbers.TryRead(value, out object number))
            throw new ValueException($"%{kind} format: a real number is required, not {TypeNames.Of(value)}");
        bool isReal = kind is "f" or "F";
        var integer = isReal ? default : number as BigInteger? ?? new BigInteger(Math.Truncate((double)number));
        string digits = kind switch
        {
            "f" or "F" => Math.Abs(Numbers.Float(number)).ToString($"F{precision ?? 6}", CultureInfo.InvariantCulture),
            "x" or "X" => BigInteger.Abs(integer).ToString(kind, CultureInfo.InvariantCulture).TrimStart('0'),
            "o" => Octal(BigInteger.Abs(integer)),
            _ => BigInteger.Abs(integer).ToString(CultureInfo.InvariantCulture),
        };
        if (digits.Length == 0)
            digits = "0";
        if (!isReal && precision is { } least)
            digits = digits.PadLeft(least, '0');

        bool negative = isReal ? double.IsNegative(Numbers.Float(number)) : integer.Sign < 0;
        if (negative)
            return "-" + digits;
        if (flags.Contains('+'))
            return "+" + digits;
        return flags.Contains(' ') ? " " + digits : digits;
    }

    private static string Octal(BigInteger value)
    {
        var digits = new StringBuilder();
        for (; !value.IsZero; value /= 8)
            digits.Insert(0, (int)(value % 8));
        return digits.ToString();
    }

    private static string Pad(string text, string flags, int width, bool isNumber)
    {
        if (flags.Contains('-'))
            return TextLayout.Pad(text, width, ' ', left: true);
        if (!isNumber || !flags.Contains('0'))
            return TextLayout.Pad(text, width, ' ', left: false);
        int sign = text[0] is '-' or '+' or ' ' ? 1 : 0;
        return text[..sign] + TextLayout.Pad(text[sign..], width - sign, '0', left: false);
    }

    [GeneratedRegex(
        @"%(?:\((?<name>[^()]*)\))?(?<flags>[-+ 0]*)(?<width>[0-9]*)(?:\.(?<precision>[0-9]+))?(?<kind>[srdiufFxXoc%])"
    )]
    private static partial Regex Conversion();
}
