namespace SimpleR1.Models.Tokenization.Patterns;

/// <summary>Which code points are the same but for their case (ſ and s, the Kelvin sign and k among them).</summary>
internal static class CaseFolding
{
    private static readonly Lazy<IReadOnlyList<int[]>> classes = new(Read);

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

    /// <summary>
    /// Reads case_folding.txt, which make_properties.pl makes: .NET's own case depends on the system's libraries.
    /// </summary>
    private static IReadOnlyList<int[]> Read()
    {
        var byFold = new Dictionary<int, List<int>>();
        using var stream = typeof(CaseFolding).Assembly.GetManifestResourceStream("case_folding.txt")!;
        using var reader = new StreamReader(stream);
        while (reader.ReadLine() is { } line)
        {
            if (line.StartsWith('#'))
                continue;
            int[] points = [.. line.Split(' ').Select(text => Convert.ToInt32(text, 16))];
            if (!byFold.TryGetValue(points[1], out var members))
                byFold[points[1]] = members = [points[1]];
            members.Add(points[0]);
        }

        return [.. byFold.Values.Select(members => members.ToArray())];
    }
}
