using System.Numerics;
using SimpleR1.Training.Rewards.Mathematics.Expressions;

namespace SimpleR1.Training.Rewards.Mathematics;

/// <summary>
/// Equality of parsed answers. The first argument is the gold answer. Comparisons count their steps, so that an answer
/// that would take long ends in a <see cref="WorkBudget.SpentException"/>.
/// </summary>
internal sealed class MathEquality(int decimals, bool calculated, WorkBudget work)
{
    private const int Points = TestPoints.Count;
    private const double SymbolicTolerance = 1e-8;

    private readonly Dictionary<MathNode, MathNode> simplified = [];
    private readonly RealSets realSets = new(0.5 * Math.Pow(10, -decimals), work);

    public bool Same(MathNode a, MathNode b)
    {
        work.Spend(2);
        if (Alternatives(b) is { } statedTwice)
            return statedTwice.Any(one => Same(a, one));
        a = Simplify(a);
        b = Simplify(b);
        if (a.Kind == MathKind.Percent != (b.Kind == MathKind.Percent)) // 28% may be meant as 28 or as 0.28
            return Same(Bare(a), Bare(b)) || SameValue(a, b);
        if (a.Kind == MathKind.Relation || b.Kind == MathKind.Relation)
            return SameRelation(a, b);
        if ((a.Kind, b.Kind) is (MathKind.Tuple, MathKind.List) or (MathKind.List, MathKind.Tuple))
            return InOrder(a.Items, b.Items); // brackets left out
        if ((a.Kind, b.Kind) is (MathKind.Tuple, MathKind.Set) or (MathKind.Set, MathKind.Tuple))
            return false;
        if (IsCollection(a) || IsCollection(b))
            return SameCollection(Items(a), Items(b));
        if (a.Kind == MathKind.Tuple && b.Kind == MathKind.Tuple)
            return a.Name == b.Name && InOrder(a.Items, b.Items);
        if (RealSets.IsSet(a) && RealSets.IsSet(b))
            return realSets.Same(a, b);
        if (a.Has(MathKind.Matrix) || b.Has(MathKind.Matrix))
            return SameMatrix(a, b);
        return SameValue(a, b);
    }

    private static MathNode Bare(MathNode node) => node.Kind == MathKind.Percent ? node.Items[0] : node;

    /// <summary>
    /// The two forms of an answer that is stated exactly and then as a decimal, 2√3 ≈ 3.46 or 10/3 = 3.33; null for any
    /// other. A decimal that is not close is no answer.
    /// </summary>
    private MathNode[]? Alternatives(MathNode node)
    {
        if (node is not { Kind: MathKind.Relation, Items: [.., var exact, var rounded] })
            return null;
        bool isApproximate = node.Name[^1] == '≈';
        if (!isApproximate && (node.Name[^1] != '=' || !IsLiteral(rounded) || Calculated(exact, rounded)))
            return null;
        if (!exact.IsConstant || !rounded.IsConstant)
            return null;
        work.Spend(exact.Size + rounded.Size);
        var x = exact.Numeric(TestPoints.At(0));
        var y = rounded.Numeric(TestPoints.At(0));
        bool isClose = Complex.Abs(x - y) <= (isApproximate ? 0.1 : 0.01) * Complex.Abs(x);
        if (!isClose && !isApproximate)
            return null;
        var left = node.Items.Length > 2 ? new(MathKind.Relation, node.Name[..^1], node.Items[..^1]) : exact;
        return isClose ? [left, rounded] : [left];
    }

    /// <summary>True when both sides are one fraction: 84/2 = 42 is a finished calculation, with 42 as its answer.</summary>
    private bool Calculated(MathNode left, MathNode right) =>
        left.Exact(work) is { } p && right.Exact(work) is { } q && (p - q).Numerator.IsZero;

    /// <summary>
    /// Simplifies: ± becomes two answers, x ∈ S is S, a chain of equations keeps its ends, an approximation is dropped,
    /// and a single item is itself.
    /// </summary>
    private MathNode Simplify(MathNode node)
    {
        if (
            node.Kind is not (MathKind.List or MathKind.Set)
            && node.Has(MathKind.PlusMinus)
            && (node.Kind != MathKind.Relation || IsAssignment(node))
        )
            return MathNode.Of(MathKind.Set, node.WithSign(true), node.WithSign(false));
        if (node.Kind == MathKind.Relation)
        {
            int approximate = node.Name.IndexOf('≈');
            if (approximate > 0)
                node = new(MathKind.Relation, node.Name[..approximate], node.Items[..(approximate + 1)]);
            else if (approximate == 0)
                node = new(MathKind.Relation, "=" + node.Name[1..], node.Items);
            int member = node.Name.LastIndexOf('∈');
            if (member >= 0)
                return Simplify(node.Items[member + 1]);
            if (node.Items.Length > 2 && node.Name.All(op => op == '='))
                return new(MathKind.Relation, "=", node.Items[0], node.Items[^1]);
        }
        return node.Kind is MathKind.List or MathKind.Set ? SimplifyCollection(node) : node;
    }

    /// <summary>
    /// A set with its members simplified from the inside out, and each once: comparing two sets then takes the product
    /// of their sizes, however deep they are nested.
    /// </summary>
    private MathNode SimplifyCollection(MathNode collection)
    {
        if (simplified.TryGetValue(collection, out var known))
            return known;
        var members = new List<MathNode>();
        foreach (var item in collection.Items)
        {
            var member = Simplify(item);
            if (collection.Kind == MathKind.List || !members.Any(m => Same(m, member) && Same(member, m)))
                members.Add(member);
        }
        var result = members is [var only] ? only : new(collection.Kind, collection.Name, [.. members]);
        simplified[collection] = result;
        simplified[result] = result;
        return result;
    }

    private static bool IsCollection(MathNode node) => node.Kind is MathKind.List or MathKind.Set;

    private List<MathNode> Items(MathNode node)
    {
        if (node.Kind is not (MathKind.List or MathKind.Set or MathKind.Tuple))
            return [node];
        var items = new List<MathNode>();
        foreach (var item in node.Items)
        {
            var simple = Simplify(item);
            if (simple.Kind == MathKind.Set && simple.Items.Length > 1 && item.Kind != MathKind.Set)
                items.AddRange(simple.Items); // from a ±
            else
                items.Add(simple);
        }
        return items;
    }

    /// <summary>The same members, whatever their order and however often each is given.</summary>
    private bool SameCollection(List<MathNode> a, List<MathNode> b)
    {
        return a.Count > 0 && b.Count > 0
            ? a.All(x => b.Any(y => Same(x, y))) && b.All(y => a.Any(x => Same(x, y)))
            : a.Count == b.Count;
    }

    private bool InOrder(MathNode[] a, MathNode[] b) =>
        a.Length == b.Length && a.Zip(b).All(p => Same(p.First, p.Second));

    private bool SameMatrix(MathNode a, MathNode b)
    {
        for (int point = 0; point < 3; point++)
        {
            work.Spend(a.Size + b.Size);
            if (
                a.Entries(TestPoints.At(point), work) is not { } x
                || b.Entries(TestPoints.At(point), work) is not { } y
                || x.GetLength(0) != y.GetLength(0)
                || x.GetLength(1) != y.GetLength(1)
            )
                return false;
            if (x.Cast<Complex>().Zip(y.Cast<Complex>()).Any(p => !Close(p.First, p.Second, symbolic: false)))
                return false;
        }
        return true;
    }

    private bool SameValue(MathNode a, MathNode b)
    {
        if (calculated && IsUnfinished(a, b))
            return false;
        if (a.Has(MathKind.Infinity) || b.Has(MathKind.Infinity))
            return realSets.Endpoint(a) is { } x && realSets.Endpoint(b) is { } y && x.Equals(y);
        if (a.Exact(work) is { } p && b.Exact(work) is { } q)
        {
            bool whole = p.Denominator.IsOne && q.Denominator.IsOne;
            return (p - q).Numerator.IsZero || !whole && Close(p.ToDouble(), q.ToDouble(), symbolic: false);
        }
        return SameNumerically(a, b);
    }

    /// <summary>
    /// True when the gold answer is a number and the other is a calculation, or a division of a whole number.
    /// </summary>
    private static bool IsUnfinished(MathNode gold, MathNode other)
    {
        if (!IsLiteral(gold))
            return false;
        bool isWhole = gold.Kind == MathKind.Number && gold.Value.Denominator.IsOne;
        return !IsLiteral(other) || isWhole && other is { Kind: MathKind.Divide, Name: "" };
    }

    /// <summary>Equal values at the test points, of which half may be outside both domains.</summary>
    private bool SameNumerically(MathNode a, MathNode b)
    {
        bool symbolic = !a.IsConstant || !b.IsConstant;
        int compared = 0;
        for (int point = 0; point < (symbolic ? Points : 1); point++)
        {
            work.Spend(a.Size + b.Size);
            var u = a.Numeric(TestPoints.At(point));
            var v = b.Numeric(TestPoints.At(point));
            if (!Complex.IsFinite(u) && !Complex.IsFinite(v))
                continue;
            if (!Complex.IsFinite(u) || !Complex.IsFinite(v) || !Close(u, v, symbolic))
                return false;
            compared++;
        }
        return compared >= (symbolic ? Points / 2 : 1);
    }

    /// <summary>
    /// A number as it is written at the end of a calculation: 5, -5, 0.5, 5/6, 1\frac{1}{2}, 5%, 1.2*10^3.
    /// </summary>
    private static bool IsLiteral(MathNode node) =>
        node.Kind switch
        {
            MathKind.Number => true,
            MathKind.Negate or MathKind.Percent or MathKind.Divide => node.Items.All(IsLiteral),
            MathKind.Add => node.Items is [{ Kind: MathKind.Number }, { Kind: MathKind.Divide, Name: "frac" }],
            MathKind.Multiply => node.Items
                is [var mantissa, { Kind: MathKind.Power, Items: [{ Kind: MathKind.Number, Value: var radix }, _] }]
                && IsLiteral(mantissa)
                && (radix - new Rational(10)).Numerator.IsZero,
            _ => false,
        };

    /// <summary>
    /// True within half a unit of the last decimal asked for, and tighter for small numbers, which would otherwise all
    /// be equal.
    /// </summary>
    private bool Close(Complex gold, Complex other, bool symbolic)
    {
        double difference = Complex.Abs(gold - other);
        double size = Complex.Abs(gold);
        if (symbolic)
            return difference <= SymbolicTolerance * Math.Max(1, size);
        return difference <= 0.5000001 * Math.Pow(10, -decimals) * Math.Min(1, 10 * size) + 1e-12 * size;
    }

    private bool SameRelation(MathNode a, MathNode b)
    {
        if (a.Kind == MathKind.Relation && b.Kind == MathKind.Relation)
        {
            if (IsAssignment(a) && IsAssignment(b))
                return Same(Assigned(a), Assigned(b)) || Proportional(a, b);
            if (a.Items.Length == 2 && b.Items.Length == 2 && Proportional(a, b))
                return true;
            return !(a.Name + b.Name).Contains('=') && realSets.Same(a, b);
        }
        var (relation, other) = a.Kind == MathKind.Relation ? (a, b) : (b, a);
        if (IsAssignment(relation))
            return a == relation ? Same(Assigned(relation), other) : Same(other, Assigned(relation));
        return RealSets.IsSet(other) && !relation.Name.Contains('=') && realSets.Same(a, b);
    }

    /// <summary>x = 5, f(2) = 5, (p, q) = (3, 2), |AB| = 1, or a calculation such as 1/2 + 1/2 = 1.</summary>
    private static bool IsAssignment(MathNode relation) =>
        relation is { Kind: MathKind.Relation, Name: "=", Items: [var left, var right] }
        && (
            IsName(left)
            || (IsName(right) && right.Items.Length == 0 && left.IsConstant)
            || (left.IsConstant && right.IsConstant)
        );

    private static MathNode Assigned(MathNode relation) =>
        IsName(relation.Items[0]) || relation.Items[1].IsConstant ? relation.Items[1] : relation.Items[0];

    private static bool IsName(MathNode node) =>
        node.Kind switch
        {
            MathKind.Symbol => node.Name is not ("pi" or "e" or "i"),
            MathKind.Application => true,
            MathKind.Multiply => IsName(node.Items[0]),
            MathKind.Tuple or MathKind.Divide => node.Items.All(IsName),
            MathKind.Function => node.Name == "abs" && IsName(node.Items[0]),
            _ => false,
        };

    /// <summary>
    /// 2x &lt; 4 and x &lt; 2: the differences of the sides have one ratio at every point, and its sign agrees with the
    /// directions.
    /// </summary>
    private bool Proportional(MathNode a, MathNode b)
    {
        if (Direction(a.Name) is not { } x || Direction(b.Name) is not { } y || Math.Abs(x) != Math.Abs(y))
            return false;
        Complex? ratio = null;
        for (int point = 0; point < Points; point++)
        {
            work.Spend(a.Size + b.Size);
            var u = Difference(a, point);
            var v = Difference(b, point);
            if (!Complex.IsFinite(u) || !Complex.IsFinite(v) || Complex.Abs(v) < 1e-9)
                return false;
            ratio ??= u / v;
            if (Complex.Abs(u / v - ratio.Value) > SymbolicTolerance * Math.Max(1, Complex.Abs(ratio.Value)))
                return false;
        }
        if (Complex.Abs(ratio!.Value) < 1e-12)
            return false;
        return Math.Abs(x) is 1 or 4 || (ratio.Value.Real > 0) == (Math.Sign(x) == Math.Sign(y));

        static Complex Difference(MathNode r, int point) =>
            r.Items[0].Numeric(TestPoints.At(point)) - r.Items[1].Numeric(TestPoints.At(point));
        static int? Direction(string op) =>
            op switch
            {
                "=" or "≡" => 1,
                "<" => -2,
                ">" => 2,
                "≤" => -3,
                "≥" => 3,
                "≠" => 4,
                _ => null,
            };
    }
}
