using System.Globalization;
using System.Numerics;

namespace SimpleR1.Training.Rewards.Mathematics.Expressions;

/// <summary>An exact fraction in lowest terms, its denominator positive.</summary>
internal readonly struct Rational
{
    public BigInteger Numerator { get; }
    public BigInteger Denominator => denominator.IsZero ? BigInteger.One : denominator; // default is 0/1
    private readonly BigInteger denominator;

    public Rational(BigInteger value)
    {
        Numerator = value;
        denominator = BigInteger.One;
    }

    public Rational(BigInteger numerator, BigInteger denominator)
    {
        if (denominator.IsZero)
            throw new DivideByZeroException();
        var divisor = BigInteger.GreatestCommonDivisor(numerator, denominator) * denominator.Sign;
        Numerator = numerator / divisor;
        this.denominator = denominator / divisor;
    }

    public static Rational operator +(Rational a, Rational b) =>
        new(a.Numerator * b.Denominator + b.Numerator * a.Denominator, a.Denominator * b.Denominator);

    public static Rational operator -(Rational a, Rational b) => a + -b;

    public static Rational operator -(Rational a) => new(-a.Numerator, a.Denominator);

    public static Rational operator *(Rational a, Rational b) =>
        new(a.Numerator * b.Numerator, a.Denominator * b.Denominator);

    public static Rational operator /(Rational a, Rational b) =>
        new(a.Numerator * b.Denominator, a.Denominator * b.Numerator);

    /// <summary>A number to 12 significant digits, without its binary rounding; null when it is too large or too small.</summary>
    public static Rational? Rounded(double value)
    {
        if (!double.IsFinite(value) || Math.Abs(value) is > 1e15 or (> 0 and < 1e-9))
            return null;
        decimal rounded = decimal.Parse(
            value.ToString("E11", CultureInfo.InvariantCulture),
            NumberStyles.Float,
            CultureInfo.InvariantCulture
        );
        int scale = (decimal.GetBits(rounded)[3] >> 16) & 0xFF;
        return new(
            (BigInteger)(rounded * (decimal)Math.Pow(10, Math.Min(scale, 20))),
            BigInteger.Pow(10, Math.Min(scale, 20))
        );
    }

    /// <summary>Size of both parts in bits, to bound the work of repeated powers.</summary>
    public long Bits => Numerator.GetBitLength() + Denominator.GetBitLength();

    public double ToDouble() =>
        Bits < 2000
            ? (double)Numerator / (double)Denominator
            : Numerator.Sign * Math.Exp(BigInteger.Log(BigInteger.Abs(Numerator)) - BigInteger.Log(Denominator));
}
