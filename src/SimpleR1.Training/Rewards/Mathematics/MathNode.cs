using System.Numerics;

namespace SimpleR1.Training.Rewards.Mathematics;

internal enum MathKind
{
    Number,
    Symbol,
    Infinity,
    Add,
    Multiply,
    Divide,
    Power,
    Negate,
    PlusMinus,
    Percent,
    Factorial,
    Function,

    /// <summary>
    /// Items between brackets; <see cref="MathNode.Name"/> is the two brackets. Two items may be an interval.
    /// </summary>
    Tuple,
    Set,
    List,
    Union,
    Intersection,
    Difference,

    /// <summary>One <see cref="List"/> a row.</summary>
    Matrix,

    /// <summary>a op b op c; <see cref="MathNode.Name"/> has one character an operator.</summary>
    Relation,
}

/// <summary>An expression as a tree. It computes its own value; it knows nothing about equality.</summary>
internal sealed record MathNode(MathKind Kind, string Name, params MathNode[] Items)
{
    private const long MaxBits = 8192;

    /// <summary>Operations whose value is a fraction when their operands' are.</summary>
    private static readonly MathKind[] ExactOperations =
    [
        MathKind.Add,
        MathKind.Multiply,
        MathKind.Divide,
        MathKind.Negate,
        MathKind.Percent,
        MathKind.Power,
        MathKind.Factorial,
    ];

    /// <summary>Of a <see cref="MathKind.Number"/>.</summary>
    public Rational Value { get; init; }

    public static MathNode Number(Rational value) => new(MathKind.Number, "") { Value = value };

    public static MathNode Of(MathKind kind, params MathNode[] items) => new(kind, "", items);

    /// <summary>This node and everything below it.</summary>
    public IEnumerable<MathNode> All() => Items.SelectMany(i => i.All()).Prepend(this);

    /// <summary>False when a value depends on an unknown.</summary>
    public bool IsConstant => !All().Any(n => n is { Kind: MathKind.Symbol, Name: not ("pi" or "e" or "i") });

    public bool Has(MathKind kind) => All().Any(n => n.Kind == kind);

    /// <summary>A copy with each ± read as + or as -.</summary>
    public MathNode WithSign(bool plus) =>
        Kind == MathKind.PlusMinus
            ? Of(
                MathKind.Add,
                Items[0].WithSign(plus),
                plus ? Items[1].WithSign(plus) : Of(MathKind.Negate, Items[1].WithSign(plus))
            )
            : this with
            {
                Items = [.. Items.Select(i => i.WithSign(plus))],
            };

    /// <summary>The exact value when it is a fraction; null when it isn't, or would be too large to be an answer.</summary>
    public Rational? Exact()
    {
        if (Kind == MathKind.Number)
            return Value;
        if (!ExactOperations.Contains(Kind))
            return null;
        var values = Items.Select(i => i.Exact()).ToArray();
        if (values.Any(v => v is null || v.Value.Bits > MaxBits))
            return null;
        return Kind switch
        {
            MathKind.Add => values.Aggregate(new Rational(0), (a, b) => a + b!.Value),
            MathKind.Multiply => values.Aggregate(new Rational(1), (a, b) => a * b!.Value),
            MathKind.Divide => values[1]!.Value.Numerator.IsZero ? null : values[0]!.Value / values[1]!.Value,
            MathKind.Negate => -values[0]!.Value,
            MathKind.Percent => values[0]!.Value / new Rational(100),
            MathKind.Factorial => Factorial(values[0]!.Value),
            _ => Power(values[0]!.Value, values[1]!.Value),
        };
    }

    private static Rational? Factorial(Rational value)
    {
        if (!value.Denominator.IsOne || value.Numerator < 0 || value.Numerator > 500)
            return null;
        return new(Enumerable.Range(1, (int)value.Numerator).Aggregate(BigInteger.One, (product, k) => product * k));
    }

    private static Rational? Power(Rational b, Rational exponent)
    {
        if (!exponent.Denominator.IsOne || BigInteger.Abs(exponent.Numerator) * b.Bits > MaxBits)
            return null;
        int n = (int)exponent.Numerator;
        if (n < 0 && b.Numerator.IsZero)
            return null;
        return n >= 0
            ? new(BigInteger.Pow(b.Numerator, n), BigInteger.Pow(b.Denominator, n))
            : new(BigInteger.Pow(b.Denominator, -n), BigInteger.Pow(b.Numerator, -n));
    }

    /// <summary>The value with the unknowns' values from <paramref name="unknown"/>; NaN when there is none.</summary>
    public Complex Numeric(Func<string, Complex> unknown)
    {
        Complex At(int i) => Items[i].Numeric(unknown);
        return Kind switch
        {
            MathKind.Number => Value.ToDouble(),
            MathKind.Symbol => Name switch
            {
                "pi" => Math.PI,
                "e" => Math.E,
                "i" => Complex.ImaginaryOne,
                _ => unknown(Name),
            },
            MathKind.Infinity => double.PositiveInfinity,
            MathKind.Add => Items.Aggregate(Complex.Zero, (sum, i) => sum + i.Numeric(unknown)),
            MathKind.Multiply => Items.Aggregate(Complex.One, (product, i) => product * i.Numeric(unknown)),
            MathKind.Divide => At(0) / At(1),
            MathKind.Negate => -At(0),
            MathKind.Percent => At(0) / 100,
            MathKind.Power => RealPower(At(0), At(1)),
            MathKind.Factorial => Exact() is { } exact ? exact.ToDouble() : Complex.NaN,
            MathKind.Function => Function(Name, [.. Items.Select(i => i.Numeric(unknown))]),
            _ => Complex.NaN,
        };
    }

    /// <summary>Real arithmetic when both are real: exact for whole exponents, unlike the complex logarithm.</summary>
    private static Complex RealPower(Complex b, Complex exponent) =>
        b.Imaginary == 0 && exponent.Imaginary == 0 && (b.Real >= 0 || exponent.Real == Math.Floor(exponent.Real))
            ? Math.Pow(b.Real, exponent.Real)
            : Complex.Pow(b, exponent);

    private static Complex Function(string name, Complex[] x) =>
        name switch
        {
            "sqrt" => x[0].Imaginary == 0 && x[0].Real >= 0 ? Math.Sqrt(x[0].Real) : Complex.Sqrt(x[0]),
            "root" => x[0].Imaginary == 0 && x[0].Real < 0 && x[1].Real % 2 != 0
                ? -Math.Pow(-x[0].Real, 1 / x[1].Real)
                : RealPower(x[0], 1 / x[1]), // (x, degree)
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

    private static double Binomial(double n, double k)
    {
        if (k < 0 || k > 1000 || k != Math.Floor(k))
            return double.NaN;
        double result = 1;
        for (int i = 1; i <= (int)k; i++)
            result *= (n - k + i) / i;
        return result;
    }

    /// <summary>
    /// The entries of a matrix expression (sums, differences and products of matrices and numbers); null for anything
    /// else.
    /// </summary>
    public Complex[,]? Entries(Func<string, Complex> unknown)
    {
        if (Kind == MathKind.Matrix)
        {
            var entries = new Complex[Items.Length, Items[0].Items.Length];
            for (int r = 0; r < Items.Length; r++)
            for (int c = 0; c < Items[0].Items.Length; c++)
                entries[r, c] = Items[r].Items[c].Numeric(unknown);
            return entries;
        }
        if (!Has(MathKind.Matrix) || Kind is not (MathKind.Add or MathKind.Multiply or MathKind.Negate))
            return null;
        if (Kind == MathKind.Negate)
            return Items[0].Entries(unknown) is { } negated ? Scale(negated, -1) : null;
        Complex[,]? result = null;
        Complex factor = 1;
        foreach (var item in Items)
        {
            if (Kind == MathKind.Multiply && !item.Has(MathKind.Matrix))
            {
                factor *= item.Numeric(unknown);
                continue;
            }
            if (item.Entries(unknown) is not { } next)
                return null;
            result = result is null ? next : Combine(result, next);
            if (result is null)
                return null;
        }
        return result is null ? null : Scale(result, factor);
    }

    private Complex[,]? Combine(Complex[,] a, Complex[,] b) => Kind == MathKind.Add ? Sum(a, b) : Product(a, b);

    private static Complex[,] Scale(Complex[,] a, Complex by) =>
        Fill(a.GetLength(0), a.GetLength(1), (r, c) => a[r, c] * by);

    private static Complex[,]? Sum(Complex[,] a, Complex[,] b) =>
        a.GetLength(0) != b.GetLength(0) || a.GetLength(1) != b.GetLength(1)
            ? null
            : Fill(a.GetLength(0), a.GetLength(1), (r, c) => a[r, c] + b[r, c]);

    private static Complex[,]? Product(Complex[,] a, Complex[,] b) =>
        a.GetLength(1) != b.GetLength(0)
            ? null
            : Fill(
                a.GetLength(0),
                b.GetLength(1),
                (r, c) =>
                    Enumerable.Range(0, a.GetLength(1)).Aggregate(Complex.Zero, (sum, k) => sum + a[r, k] * b[k, c])
            );

    private static Complex[,] Fill(int rows, int columns, Func<int, int, Complex> entry)
    {
        var result = new Complex[rows, columns];
        for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            result[r, c] = entry(r, c);
        return result;
    }
}
