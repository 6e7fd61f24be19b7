using System.Numerics;
using SimpleR1.Training.Rewards.Mathematics.Expressions;

namespace SimpleR1.Training.Rewards.Mathematics;

/// <summary>Sets of real numbers: intervals, unions, and the solutions of inequalities in one unknown.</summary>
internal sealed class RealSets(double tolerance, WorkBudget work)
{
    private const int MaxItems = 64;

    /// <summary>True for an interval, and for sets joined or cut.</summary>
    public static bool IsSet(MathNode node) =>
        node.Kind is MathKind.Union or MathKind.Intersection or MathKind.Difference
        || node is { Kind: MathKind.Tuple, Items.Length: 2 }
        || node is { Kind: MathKind.Symbol, Name: "mathbbR" };

    /// <summary>
    /// True when the same real numbers belong to both, tried at every end point, between end points, next to them and
    /// beyond.
    /// </summary>
    public bool Same(MathNode a, MathNode b)
    {
        bool areRelations = a.Kind == MathKind.Relation && b.Kind == MathKind.Relation;
        if (Unknowns(a).Concat(Unknowns(b)).Distinct().Count() > (areRelations ? 1 : 2))
            return false;
        bool any = false;
        foreach (double x in Points(EndPoints(a, b)))
        {
            work.Spend(a.Size + b.Size);
            if (Contains(a, x) is not { } inA || Contains(b, x) is not { } inB || inA != inB)
                return false;
            any |= inA;
        }
        return any;
    }

    /// <summary>The constants in both and their negatives; those that differ only by rounding are one.</summary>
    private List<double> EndPoints(MathNode a, MathNode b)
    {
        var ends = a.All()
            .Concat(b.All())
            .Where(n => n.IsConstant && n.Items.Length < 3)
            .Select(Endpoint)
            .OfType<double>()
            .Where(double.IsFinite)
            .SelectMany(e => new[] { e, -e })
            .Distinct()
            .Order()
            .Take(MaxItems)
            .ToList();
        for (int i = ends.Count - 1; i > 0; i--)
        {
            if (ends[i] - ends[i - 1] <= tolerance)
                ends.RemoveAt(i);
        }
        return ends;
    }

    private List<double> Points(List<double> ends)
    {
        List<double> points = [-1e6, 1e6, .. ends];
        for (int i = 0; i < ends.Count; i++)
        {
            points.Add(ends[i] - 3 * tolerance);
            points.Add(ends[i] + 3 * tolerance);
            points.Add(i > 0 ? (ends[i] + ends[i - 1]) / 2 : ends[i] - 1);
        }
        for (int i = 0; i < 64; i++)
            points.Add((i - 32) * 1.37);
        return points;
    }

    private static IEnumerable<string> Unknowns(MathNode node) =>
        node.All()
            .Where(n => n is { Kind: MathKind.Symbol, Name: not ("pi" or "e" or "i" or "mathbbR") })
            .Select(n => n.Name);

    /// <summary>
    /// Whether a number belongs to a set, or solves a chain of inequalities in one unknown; null when that is
    /// undecided.
    /// </summary>
    private bool? Contains(MathNode node, double x)
    {
        switch (node.Kind)
        {
            case MathKind.Symbol:
                return node.Name == "mathbbR" ? true : null;
            case MathKind.Union:
                return Contains(node.Items[0], x) | Contains(node.Items[1], x);
            case MathKind.Intersection:
                return Contains(node.Items[0], x) & Contains(node.Items[1], x);
            case MathKind.Difference:
                return Contains(node.Items[0], x) & !Contains(node.Items[1], x);
            case MathKind.Set:
                return node.Items.Any(i => Endpoint(i) is { } member && Math.Abs(member - x) <= tolerance);
            case MathKind.Tuple when node.Items.Length == 2:
                return InInterval(node, x);
            case MathKind.Relation:
                return Solves(node, x);
            default:
                return null;
        }
    }

    private bool? InInterval(MathNode interval, double x)
    {
        if (Endpoint(interval.Items[0]) is not { } low || Endpoint(interval.Items[1]) is not { } high)
            return null;
        bool atLow = Math.Abs(x - low) <= tolerance;
        bool atHigh = Math.Abs(x - high) <= tolerance;
        return (atLow ? interval.Name[0] == '[' : x > low) && (atHigh ? interval.Name[1] == ']' : x < high);
    }

    private bool Solves(MathNode relation, double x)
    {
        double[] values =
        [
            .. relation.Items.Select(i =>
                i.Kind == MathKind.Infinity ? double.PositiveInfinity : i.Numeric(_ => x).Real
            ),
        ];
        bool all = true;
        for (int i = 0; i < relation.Name.Length; i++)
        {
            bool equal = Math.Abs(values[i] - values[i + 1]) <= tolerance;
            all &= relation.Name[i] switch
            {
                '<' => values[i] < values[i + 1] && !equal,
                '>' => values[i] > values[i + 1] && !equal,
                '≤' => values[i] < values[i + 1] || equal,
                '≥' => values[i] > values[i + 1] || equal,
                '≠' => !equal,
                _ => false,
            };
        }
        return all;
    }

    /// <summary>A real constant, infinities included.</summary>
    public double? Endpoint(MathNode node) =>
        node switch
        {
            { Kind: MathKind.Infinity } => double.PositiveInfinity,
            { Kind: MathKind.Negate, Items: [{ Kind: MathKind.Infinity }] } => double.NegativeInfinity,
            _ when node.IsConstant
                    && !node.Has(MathKind.Infinity)
                    && Constant(node) is { } value
                    && Complex.IsFinite(value)
                    && value.Imaginary == 0 => value.Real,
            _ => null,
        };

    private Complex Constant(MathNode node)
    {
        work.Spend(node.Size);
        return node.Numeric(TestPoints.At(0));
    }
}
