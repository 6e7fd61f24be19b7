using System.Globalization;
using System.Numerics;

namespace SimpleR1.Models.Prompts.Jinja.Values;

/// <summary>Python's arithmetic on int (BigInteger), float (double) and bool.</summary>
internal static class Numbers
{
    /// <summary>No template needs longer integers, and their products could take for ever.</summary>
    private const long MaxBits = 4096;

    /// <summary>A number as BigInteger or double; bools are 0 and 1.</summary>
    public static bool TryRead(object? value, out object number)
    {
        number = value switch
        {
            bool flag => flag ? BigInteger.One : BigInteger.Zero,
            BigInteger or double => value,
            _ => None.Value,
        };
        return number is not None;
    }

    /// <exception cref="ValueException">The value is no int.</exception>
    public static BigInteger Integer(object value) =>
        TryRead(value, out object number) && number is BigInteger integer
            ? integer
            : throw new ValueException($"expected an int, found {TypeNames.Of(value)}");

    /// <summary>An int that is clamped to the range of a C# int.</summary>
    public static int Index(object value) =>
        (int)BigInteger.Max(int.MinValue, BigInteger.Min(int.MaxValue, Integer(value)));

    public static double Float(object number) => number is BigInteger integer ? (double)integer : (double)number;

    /// <summary>Negative, 0, positive; NaN is unequal to all and compares as 1.</summary>
    public static int Compare(object a, object b)
    {
        if (a is BigInteger x && b is BigInteger y)
            return x.CompareTo(y);
        double left = Float(a);
        double right = Float(b);
        if (double.IsNaN(left) || double.IsNaN(right))
            return 1;
        if (left != right || !double.IsFinite(left))
            return left.CompareTo(right);

        // Equal as doubles: a long integer may still differ.
        return a is double && b is double ? 0 : Exact(a).CompareTo(Exact(b));
    }

    private static BigInteger Exact(object number) => number is BigInteger integer ? integer : new((double)number);

    public static object Calculate(string operation, object a, object b)
    {
        if (a is BigInteger x && b is BigInteger y)
            return Calculate(operation, x, y);
        return Calculate(operation, Float(a), Float(b));
    }

    private static object Calculate(string operation, BigInteger a, BigInteger b)
    {
        if (operation is "/" or "//" or "%" && b.IsZero)
            throw new ValueException(operation == "/" ? "division by zero" : "integer division or modulo by zero");
        return operation switch
        {
            "+" => Checked(a + b),
            "-" => Checked(a - b),
            "*" => Checked(a * b),
            "/" => (double)a / (double)b,
            "//" => Floor(a, b),
            "%" => a - Floor(a, b) * b,
            "**" => Power(a, b),
            _ => throw new ValueException($"numbers have no operator {operation}"),
        };
    }

    private static double Calculate(string operation, double a, double b)
    {
        if (operation is "/" or "//" or "%" && b == 0)
            throw new ValueException("float division by zero");
        double result = operation switch
        {
            "+" => a + b,
            "-" => a - b,
            "*" => a * b,
            "/" => a / b,
            "//" => DivideWithRest(a, b).Quotient,
            "%" => DivideWithRest(a, b).Remainder,
            "**" => Math.Pow(a, b),
            _ => throw new ValueException($"numbers have no operator {operation}"),
        };
        if (operation == "**" && double.IsFinite(a) && double.IsFinite(b) && !double.IsFinite(result))
            throw new ValueException("the result of ** is not a finite number");
        return result;
    }

    /// <summary>CPython's divmod of floats.</summary>
    private static (double Quotient, double Remainder) DivideWithRest(double a, double b)
    {
        double rest = a % b;
        double quotient = (a - rest) / b;
        if (rest != 0 && rest < 0 != b < 0)
        {
            rest += b;
            quotient -= 1;
        }
        else if (rest == 0)
            rest = Math.CopySign(0, b);

        if (quotient == 0)
            return (Math.CopySign(0, a / b), rest);
        double floor = Math.Floor(quotient);
        return (quotient - floor > 0.5 ? floor + 1 : floor, rest);
    }

    private static BigInteger Floor(BigInteger a, BigInteger b)
    {
        var quotient = BigInteger.DivRem(a, b, out var rest);
        return !rest.IsZero && rest.Sign != b.Sign ? quotient - 1 : quotient;
    }

    private static object Power(BigInteger a, BigInteger b)
    {
        if (b.Sign < 0)
            return a.IsZero
                ? throw new ValueException("0.0 cannot be raised to a negative power")
                : Math.Pow((double)a, (double)b);
        if (!a.IsZero && !BigInteger.Abs(a).IsOne && b * a.GetBitLength() > MaxBits)
            throw TooLong();
        if (BigInteger.Abs(a) <= 1)
            return BigInteger.Pow(a, b.IsZero ? 0 : 2 - (int)(b % 2)); // the same for all odd and all even exponents
        return BigInteger.Pow(a, (int)b);
    }

    private static BigInteger Checked(BigInteger value) => value.GetBitLength() <= MaxBits ? value : throw TooLong();

    private static ValueException TooLong() => new($"an integer of more than {MaxBits} bits");

    /// <summary>Python's repr of a float: the shortest digits that read back as the same number.</summary>
    public static string Text(double value)
    {
        if (double.IsNaN(value))
            return "nan";
        if (double.IsInfinity(value))
            return value > 0 ? "inf" : "-inf";

        // Digits and decimal exponent of the shortest form, such as 1E-07 or 120.5
        string[] parts = Math.Abs(value).ToString("R", CultureInfo.InvariantCulture).Split('E');
        string whole = parts[0].Split('.')[0];
        string digits = parts[0].Replace(".", "", StringComparison.Ordinal).TrimStart('0');
        int zeros = parts[0].Length - whole.Length - 1 - digits.Length; // after the point, when whole is 0
        int exponent = parts.Length > 1 ? int.Parse(parts[1], CultureInfo.InvariantCulture) : 0;
        if (value != 0)
            exponent += whole == "0" ? -zeros - 1 : whole.Length - 1;

        digits = digits.TrimEnd('0');
        if (digits.Length == 0)
            digits = "0";
        string sign = double.IsNegative(value) ? "-" : "";
        return sign + (exponent is >= -4 and < 16 ? Fixed(digits, exponent) : Scientific(digits, exponent));
    }

    private static string Fixed(string digits, int exponent)
    {
        if (exponent < 0)
            return "0." + new string('0', -exponent - 1) + digits;
        if (digits.Length <= exponent + 1)
            return digits.PadRight(exponent + 1, '0') + ".0";
        return digits[..(exponent + 1)] + "." + digits[(exponent + 1)..];
    }

    private static string Scientific(string digits, int exponent)
    {
        string point = digits.Length > 1 ? "." + digits[1..] : "";
        string sign = exponent < 0 ? "-" : "+";
        return $"{digits[0]}{point}e{sign}{Math.Abs(exponent):00}";
    }
}
