using System.Numerics;

namespace SimpleR1.Training.Rewards.Mathematics.Expressions;

/// <summary>Values of functions at complex numbers; NaN where there is none.</summary>
internal static class MathFunctions
{
    private static readonly double[] Lanczos =
    [
        0.99999999999980993,
        676.5203681218851,
        -1259.1392167224028,
        771.32342877765313,
        -176.61502916214059,
        12.507343278686905,
        -0.13857109526572012,
        9.9843695780195716e-6,
        1.5056327351493116e-7,
    ];

    /// <summary>Real arithmetic when both are real: exact for whole exponents, unlike the complex logarithm.</summary>
    public static Complex Power(Complex b, Complex exponent) =>
        b.Imaginary == 0 && exponent.Imaginary == 0 && (b.Real >= 0 || exponent.Real == Math.Floor(exponent.Real))
            ? Math.Pow(b.Real, exponent.Real)
            : Complex.Pow(b, exponent);

    public static Complex Value(string name, Complex[] x) =>
        name switch
        {
            "sqrt" => x[0].Imaginary == 0 && x[0].Real >= 0 ? Math.Sqrt(x[0].Real) : Complex.Sqrt(x[0]),
            "root" => x[0].Imaginary == 0 && x[0].Real < 0 && x[1].Real % 2 != 0
                ? -Math.Pow(-x[0].Real, 1 / x[1].Real)
                : Power(x[0], 1 / x[1]), // (x, degree)
            "abs" => Complex.Abs(x[0]),
            "sin" => Complex.Sin(x[0]),
            "cos" => Complex.Cos(x[0]),
            "tan" => Complex.Tan(x[0]),
            "cot" => 1 / Complex.Tan(x[0]),
            "sec" => 1 / Complex.Cos(x[0]),
            "csc" => 1 / Complex.Sin(x[0]),
            "arcsin" => Complex.Asin(x[0]),
            "arccos" => Complex.Acos(x[0]),
            "arctan" => Complex.Atan(x[0]),
            "sinh" => Complex.Sinh(x[0]),
            "cosh" => Complex.Cosh(x[0]),
            "tanh" => Complex.Tanh(x[0]),
            "ln" => Complex.Log(x[0]),
            "exp" => Complex.Exp(x[0]),
            "log" => Complex.Log(x[0]) / Complex.Log(x.Length > 1 ? x[1] : 10), // (x, base)
            "floor" => Math.Floor(x[0].Real),
            "ceil" => Math.Ceiling(x[0].Real),
            "binom" => Binomial(x[0].Real, x[1].Real),
            _ => Complex.NaN,
        };

    /// <summary>Γ(x + 1), so that n! is also compared where n is unknown; Lanczos' approximation with g = 7.</summary>
    public static Complex Factorial(Complex n)
    {
        if (n.Imaginary != 0)
            return Complex.NaN;
        double x = n.Real;
        bool isWhole = x == Math.Floor(x);
        if (isWhole && (x < 0 || x > 170))
            return x < 0 ? Complex.NaN : double.PositiveInfinity;
        if (!isWhole)
            return Gamma(x + 1);
        double product = 1;
        for (int factor = 2; factor <= (int)x; factor++)
            product *= factor;
        return product;
    }

    private static double Gamma(double x)
    {
        if (x < 0.5)
            return Math.PI / (Math.Sin(Math.PI * x) * Gamma(1 - x));
        double sum = Lanczos[0];
        for (int i = 1; i < Lanczos.Length; i++)
            sum += Lanczos[i] / (x - 1 + i);
        double t = x + 6.5;
        return Math.Sqrt(2 * Math.PI) * Math.Pow(t, x - 0.5) * Math.Exp(-t) * sum;
    }

    /// <summary>
    /// A smooth function that has nothing to do with any other: f(x + 1) and f(1 + x) are equal, f(0) is not 0.
    /// </summary>
    public static Complex Custom(string name, Complex[] x, Func<string, Complex> unknown)
    {
        var value = unknown(name + "()");
        for (int i = 0; i < x.Length; i++)
            value += Complex.Sin(unknown($"{name}({i})") * (x[i] + 1.3)) * unknown($"{name}[{i}]");
        return value;
    }

    private static double Binomial(double n, double k)
    {
        if (k < 0 || k > 1000 || k != Math.Floor(k))
            return double.NaN;
        double result = 1;
        for (int i = 1; i <= (int)k; i++)
            result *= (n - k + i) / i;
        return result;
    }
}
