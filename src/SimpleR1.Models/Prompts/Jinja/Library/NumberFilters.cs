using System.Globalization;
using System.Numerics;
using SimpleR1.Models.Prompts.Jinja.Texts;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Library;

/// <summary>Filters that make numbers.</summary>
internal static class NumberFilters
{
    public static readonly IReadOnlyDictionary<string, Filter> All = new Dictionary<string, Filter>
    {
        ["abs"] = Filter.WithoutArguments(Absolute),
        ["count"] = Filter.WithoutArguments(Count),
        ["float"] = new(new(0, "default"), (v, a) => ParseFloat(v) ?? a.Value(0, 0.0)),
        ["int"] = new(new(0, "default", "base"), ToInteger),
        ["length"] = Filter.WithoutArguments(Count),
        ["round"] = new(new(0, "precision", "method"), Round),
        ["sum"] = new(new(0, "attribute", "start"), Sum),
    };

    private static object Absolute(object value)
    {
        if (!Numbers.TryRead(value, out object number))
            throw new ValueException($"bad operand type for abs(): '{TypeNames.Of(value)}'");
        return number is BigInteger integer ? BigInteger.Abs(integer) : Math.Abs((double)number);
    }

    private static object Count(object value) => new BigInteger(Protocols.Length(value));

    private static object? ParseFloat(object value)
    {
        if (Numbers.TryRead(value, out object number))
            return Numbers.Float(number);
        if (value is not (string or Markup))
            return null;
        string text = PythonText.Strip(PythonText.Plain(value)).Replace("_", "", StringComparison.Ordinal);
        return text.ToLowerInvariant() switch
        {
            "inf" or "+inf" or "infinity" => double.PositiveInfinity,
            "-inf" or "-infinity" => double.NegativeInfinity,
            "nan" => double.NaN,
            _ when double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double parsed) => parsed,
            _ => null,
        };
    }

    private static object ToInteger(object value, BoundValues arguments)
    {
        if (value is string or Markup)
        {
            string text = PythonText.Strip(PythonText.Plain(value)).Replace("_", "", StringComparison.Ordinal);
            if (ParseInteger(text, arguments.Integer(1, 10)) is { } integer)
                return integer;
        }
        object? number = Numbers.TryRead(value, out object read) ? read : ParseFloat(value);
        return number switch
        {
            BigInteger integer => integer,
            double real when double.IsFinite(real) => new BigInteger(Math.Truncate(real)),
            _ => arguments.Value(0, BigInteger.Zero),
        };
    }

    /// <summary>Digits with a sign, and a prefix such as 0x that fits the base; null if the text is something else.</summary>
    private static BigInteger? ParseInteger(string text, int numberBase)
    {
        bool negative = text.StartsWith('-');
        string digits = (negative || text.StartsWith('+') ? text[1..] : text).ToLowerInvariant();
        string prefix = numberBase switch
        {
            16 => "0x",
            8 => "0o",
            2 => "0b",
            _ => "",
        };
        if (prefix.Length > 0 && digits.StartsWith(prefix, StringComparison.Ordinal))
            digits = digits[2..];
        if (digits.Length is 0 or > 1000)
            return null;

        var sum = BigInteger.Zero;
        foreach (char c in digits)
        {
            int digit = char.IsAsciiDigit(c) ? c - '0' : c - 'a' + 10;
            if (!char.IsAsciiLetterOrDigit(c) || digit >= numberBase)
                return null;
            sum = sum * numberBase + digit;
        }
        return negative ? -sum : sum;
    }

    private static object Round(object value, BoundValues arguments)
    {
        if (!Numbers.TryRead(value, out object number))
            throw new ValueException($"type {TypeNames.Of(value)} has no rounding");
        int precision = arguments.Integer(0, 0);
        if (Math.Abs(precision) > 300)
            throw new ValueException($"round: expected a precision within ±300, found {precision}");
        string method = arguments.Text(1, "common");
        double scale = Math.Pow(10, precision);
        return method switch
        {
            "common" when number is BigInteger integer => RoundInteger(integer, precision),
            "common" => RoundHalfEven((double)number, precision),
            "ceil" => Math.Ceiling(Numbers.Float(number) * scale) / scale,
            "floor" => Math.Floor(Numbers.Float(number) * scale) / scale,
            _ => throw new ValueException("method must be common, ceil or floor"),
        };
    }

    private static object RoundInteger(BigInteger value, int precision)
    {
        if (precision >= 0)
            return value;
        var unit = BigInteger.Pow(10, -precision);
        return RoundRatio(value, unit) * unit;
    }

    /// <summary>Rounds the exact value of a double, as Python does.</summary>
    private static object RoundHalfEven(double value, int precision)
    {
        if (!double.IsFinite(value) || value == 0)
            return value;

        // value = mantissa · 2^exponent, exactly
        long bits = BitConverter.DoubleToInt64Bits(value);
        int biased = (int)((bits >> 52) & 0x7ff);
        BigInteger mantissa = biased == 0 ? bits & 0xfffffffffffff : bits & 0xfffffffffffff | 0x10000000000000;
        int exponent = Math.Max(1, biased) - 1075;

        var top = mantissa * BigInteger.Pow(2, Math.Max(0, exponent)) * BigInteger.Pow(10, Math.Max(0, precision));
        var bottom = BigInteger.Pow(2, Math.Max(0, -exponent)) * BigInteger.Pow(10, Math.Max(0, -precision));
        string digits = $"{RoundRatio(top, bottom)}E{-precision}";
        return Math.CopySign(double.Parse(digits, CultureInfo.InvariantCulture), value);
    }

    private static BigInteger RoundRatio(BigInteger top, BigInteger bottom)
    {
        var quotient = BigInteger.DivRem(BigInteger.Abs(top), bottom, out var rest);
        int half = (rest * 2).CompareTo(bottom);
        if (half > 0 || half == 0 && !quotient.IsEven)
            quotient++;
        return top.Sign < 0 ? -quotient : quotient;
    }

    private static object Sum(object value, BoundValues arguments)
    {
        object sum = arguments.Value(1, BigInteger.Zero);
        var read = MemberPath.Reader(arguments[0], null);
        foreach (object item in Protocols.Iterate(value))
        {
            Meter.Step();
            sum = Operators.Binary("+", sum, read(item));
        }
        return sum;
    }
}
