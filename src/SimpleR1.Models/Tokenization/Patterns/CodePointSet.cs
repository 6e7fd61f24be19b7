namespace SimpleR1.Models.Tokenization.Patterns;

/// <summary>A set of Unicode code points, as sorted ranges that do not touch.</summary>
internal sealed class CodePointSet
{
    private const int Last = 0x10FFFF;

    public static readonly CodePointSet Empty = new([]);

    private CodePointSet(IReadOnlyList<(int First, int Last)> ranges) => Ranges = ranges;

    public IReadOnlyList<(int First, int Last)> Ranges { get; }

    public static CodePointSet Of(int first, int last) => new([(first, last)]);

    /// <summary>A set from ranges in any order, which may overlap.</summary>
    public static CodePointSet Of(IEnumerable<(int First, int Last)> ranges)
    {
        var merged = new List<(int First, int Last)>();
        foreach (var range in ranges.OrderBy(r => r.First))
        {
            if (merged.Count > 0 && range.First <= merged[^1].Last + 1)
                merged[^1] = (merged[^1].First, Math.Max(merged[^1].Last, range.Last));
            else
                merged.Add(range);
        }

        return new(merged);
    }

    public CodePointSet Union(CodePointSet other) => Of(Ranges.Concat(other.Ranges));

    public CodePointSet Complement()
    {
        var gaps = new List<(int First, int Last)>();
        int next = 0;
        foreach (var (first, last) in Ranges)
        {
            if (first > next)
                gaps.Add((next, first - 1));
            next = last + 1;
        }

        if (next <= Last)
            gaps.Add((next, Last));
        return new(gaps);
    }

    public CodePointSet Intersect(CodePointSet other) => Complement().Union(other.Complement()).Complement();

    public bool Contains(int point)
    {
        int low = 0;
        int high = Ranges.Count - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            if (point < Ranges[middle].First)
                high = middle - 1;
            else if (point > Ranges[middle].Last)
                low = middle + 1;
            else
                return true;
        }

        return false;
    }
}
