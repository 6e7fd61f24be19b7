using System.Numerics;

namespace SimpleR1.Training.Rewards.Mathematics.Expressions;

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

    /// <summary>A custom function of its items, such as f(0): <see cref="MathNode.Name"/> is the f.</summary>
    Application,

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

/// <summary>
/// An expression as a tree. It computes its own value; it knows nothing about equality. What questions about the tree
/// need (its size, the kinds in it) is computed once, when it is made.
/// </summary>
internal sealed class MathNode
{
    private const long MaxBits = 8192;

    /// <summary>Operations whose value is a fraction when their operands' are.</summary>
    private const int ExactOperations =
        1 << (int)MathKind.Add
        | 1 << (int)MathKind.Multiply
        | 1 << (int)MathKind.Divide
        | 1 << (int)MathKind.Negate
        | 1 << (int)MathKind.Percent
        | 1 << (int)MathKind.Power
        | 1 << (int)MathKind.Factorial;

    private readonly int kinds; // one bit for each kind in the tree
    private Rational? exact;
    private bool exactIsKnown;

    public MathNode(MathKind kind, string name, params MathNode[] items)
    {
        Kind = kind;
        Name = name;
        Items = items;
        Size = 1;
        kinds = 1 << (int)kind;
        IsConstant = kind != MathKind.Application && !(kind == MathKind.Symbol && name is not ("pi" or "e" or "i"));
        foreach (var item in items)
        {
            Size += item.Size;
            kinds |= item.kinds;
            IsConstant &= item.IsConstant;
        }
    }

    public MathKind Kind { get; }
    public string Name { get; }
    public MathNode[] Items { get; }

    /// <summary>Nodes of the tree: the steps that its evaluation takes.</summary>
    public int Size { get; }

    /// <summary>False when a value depends on an unknown.</summary>
    public bool IsConstant { get; }

    /// <summary>Of a <see cref="MathKind.Number"/>.</summary>
    public Rational Value { get; private init; }

    public static MathNode Number(Rational value) => new(MathKind.Number, "") { Value = value };

    public static MathNode Of(MathKind kind, params MathNode[] items) => new(kind, "", items);

    /// <summary>This node and everything below it.</summary>
    public IEnumerable<MathNode> All()
    {
        var open = new Stack<MathNode>([this]);
        while (open.TryPop(out var node))
        {
            yield return node;
            for (int i = node.Items.Length - 1; i >= 0; i--)
                open.Push(node.Items[i]);
        }
    }

    public bool Has(MathKind kind) => (kinds & 1 << (int)kind) != 0;

    /// <summary>A copy with each ± read as + or as -.</summary>
    public MathNode WithSign(bool plus)
    {
        if (!Has(MathKind.PlusMinus))
            return this;
        MathNode[] items = [.. Items.Select(i => i.WithSign(plus))];
        if (Kind != MathKind.PlusMinus)
            return new(Kind, Name, items);
        return Of(MathKind.Add, items[0], plus ? items[1] : Of(MathKind.Negate, items[1]));
    }

    /// <summary>The exact value when it is a fraction; null when it isn't, or would be too large to be an answer.</summary>
    /// <exception cref="WorkBudget.SpentException">The numbers are too long for what is left of the work.</exception>
    public Rational? Exact(WorkBudget work)
    {
        if (!exactIsKnown)
        {
            exact = Kind == MathKind.Number ? Value : FindExact(work);
            exactIsKnown = true;
        }
        return exact;
    }

    private Rational? FindExact(WorkBudget work)
    {
        work.Spend(1);
        if ((ExactOperations & 1 << (int)Kind) == 0)
            return null;
        var values = new Rational[Items.Length];
        long bits = 0;
        for (int i = 0; i < values.Length; i++)
        {
            if (Items[i].Exact(work) is not { } value || value.Bits > MaxBits)
                return null;
            values[i] = value;
            bits += value.Bits;
        }
        work.Spend(2 + bits * bits / 8_000); // products and common divisors take quadratic time
        return Kind switch
        {
            MathKind.Add => values[0] + values[1],
            MathKind.Multiply => values[0] * values[1],
            MathKind.Divide => values[1].Numerator.IsZero ? null : values[0] / values[1],
            MathKind.Negate => -values[0],
            MathKind.Percent => values[0] / new Rational(100),
            MathKind.Factorial => Factorial(values[0], Name.Length + 1, work),
            _ => Power(values[0], values[1], work),
        };
    }

    /// <summary>n! with a stride of 1, n!! with 2.</summary>
    private static Rational? Factorial(Rational value, int stride, WorkBudget work)
    {
        if (!value.Denominator.IsOne || value.Numerator < 0 || value.Numerator > 500)
            return null;
        work.Spend((long)value.Numerator * 2);
        var product = BigInteger.One;
        for (int factor = (int)value.Numerator; factor > 1; factor -= stride)
            product *= factor;
        return new(product);
    }

    private static Rational? Power(Rational b, Rational exponent, WorkBudget work)
    {
        if (!exponent.Denominator.IsOne || BigInteger.Abs(exponent.Numerator) * b.Bits > MaxBits)
            return null;
        int n = (int)exponent.Numerator;
        if (n < 0 && b.Numerator.IsZero)
            return null;
        long bits = Math.Abs(n) * b.Bits;
        work.Spend(1 + bits * bits / 8_000);
        return n >= 0
            ? new(BigInteger.Pow(b.Numerator, n), BigInteger.Pow(b.Denominator, n))
            : new(BigInteger.Pow(b.Denominator, -n), BigInteger.Pow(b.Numerator, -n));
    }

    /// <summary>
    /// The value with the unknowns' values from <paramref name="unknown"/>; NaN when there is none. It takes
    /// <see cref="Size"/> steps, which the caller counts.
    /// </summary>
    public Complex Numeric(Func<string, Complex> unknown)
    {
        var x = new Complex[Items.Length];
        for (int i = 0; i < x.Length; i++)
            x[i] = Items[i].Numeric(unknown);
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
            MathKind.Add => x[0] + x[1],
            MathKind.Multiply => x[0] * x[1],
            MathKind.Divide => x[0] / x[1],
            MathKind.Negate => -x[0],
            MathKind.Percent => x[0] / 100,
            MathKind.Power => MathFunctions.Power(x[0], x[1]),
            MathKind.Factorial => Name == "" ? MathFunctions.Factorial(x[0]) : Complex.NaN,
            MathKind.Function => MathFunctions.Value(Name, x),
            MathKind.Application => MathFunctions.Custom(Name, x, unknown),
            _ => Complex.NaN,
        };
    }

    /// <summary>
    /// The entries of a matrix expression (sums, differences and products of matrices and numbers); null for anything
    /// else.
    /// </summary>
    /// <exception cref="WorkBudget.SpentException">The products are too large for what is left of the work.</exception>
    public Complex[,]? Entries(Func<string, Complex> unknown, WorkBudget work)
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
            return Items[0].Entries(unknown, work) is { } negated ? Scale(negated, -1) : null;
        Complex[,]? result = null;
        Complex factor = 1;
        foreach (var item in Items)
        {
            if (Kind == MathKind.Multiply && !item.Has(MathKind.Matrix))
            {
                factor *= item.Numeric(unknown);
                continue;
            }
            if (item.Entries(unknown, work) is not { } next)
                return null;
            if (result is not null)
                work.Spend((long)result.Length * next.GetLength(1));
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
