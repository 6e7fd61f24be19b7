using System.Text;

namespace SimpleR1.Models.Tokenization.Patterns;

/// <summary>Which code points are the same but for their case (ſ and s, the Kelvin sign and k among them).</summary>
internal static class CaseFolding
{
    // The dotted capital I and the dotless i fold to nothing but themselves (CaseFolding.txt, statuses C and S).
    private const int DottedI = 0x130;
    private const int DotlessI = 0x131;

    private static readonly Lazy<IReadOnlyList<int[]>> classes = new(Build);

    /// <summary>The set, with all that differs from its members in case only.</summary>
    public static CodePointSet Close(CodePointSet set)
    {
        var added = classes.Value.Where(c => c.Any(set.Contains)).SelectMany(c => c).Select(p => (p, p));
        return CodePointSet.Of(set.Ranges.Concat(added));
    }

    /// <summary>
    /// Whether a letter may equal several without regard to case (ß and ss), which a set of single code points can't
    /// express.
    /// </summary>
    public static bool MayBeSeveral(int point) =>
        point
            is 0xDF
                or 0x149
                or 0x1F0
                or 0x390
                or 0x3B0
                or 0x587
                or (>= 0x1E96 and <= 0x1E9E)
                or (>= 0x1F50 and <= 0x1FFC)
                or (>= 0xFB00 and <= 0xFB17);

    /// <summary>Whether two ASCII letters side by side may equal one (ß, ﬀ, ﬁ, ﬂ, ﬆ).</summary>
    public static bool MayBeOne(int first, int second) =>
        (char.ToLowerInvariant((char)first), char.ToLowerInvariant((char)second))
            is
                ('s', 's')
                or
                ('f', 'f')
                or
                ('f', 'i')
                or
                ('f', 'l')
                or
                ('s', 't');

    private static IReadOnlyList<int[]> Build()
    {
        var byFold = new Dictionary<int, List<int>>();
        for (int point = 0; point <= 0x1FFFF; point++)
        {
            if (!Rune.IsValid(point) || point is DottedI or DotlessI)
                continue;
            var rune = new Rune(point);
            var upper = Rune.ToUpperInvariant(rune);
            if (upper == rune && Rune.ToLowerInvariant(rune) == rune)
                continue;
            int fold = Rune.ToLowerInvariant(upper).Value;
            if (!byFold.TryGetValue(fold, out var members))
                byFold[fold] = members = [];
            members.Add(point);
        }

        return [.. byFold.Values.Where(members => members.Count > 1).Select(members => members.ToArray())];
    }
}
