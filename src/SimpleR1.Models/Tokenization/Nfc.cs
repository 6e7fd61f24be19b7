using System.Globalization;
using System.Text;

namespace SimpleR1.Models.Tokenization;

/// <summary>
/// Unicode normalization form C (UAX #15). .NET leaves it to the system's ICU library, which a small container may lack and whose
/// version may differ from machine to machine; token ids must not depend on that. Its table is made by make_nfc_table.py.
/// </summary>
internal static class Nfc
{
    private const int HangulBase = 0xAC00,
        LBase = 0x1100,
        VBase = 0x1161,
        TBase = 0x11A7,
        LCount = 19,
        VCount = 21,
        TCount = 28;

    private static readonly Dictionary<int, int[]> Decompositions = [];
    private static readonly Dictionary<(int, int), int> Compositions = [];
    private static readonly Dictionary<int, int> Classes = [];

    static Nfc()
    {
        using var reader = new StreamReader(typeof(Nfc).Assembly.GetManifestResourceStream("nfc.txt")!);
        while (reader.ReadLine() is { } line)
        {
            string[] parts = line.Split(' ');
            int Hex(int i) => int.Parse(parts[i], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            if (parts[0] is "D" or "X")
            {
                int[] to = [.. Enumerable.Range(2, parts.Length - 2).Select(Hex)];
                Decompositions[Hex(1)] = to;
                if (parts[0] == "D" && to.Length == 2)
                    Compositions[(to[0], to[1])] = Hex(1);
            }
            else if (parts[0] == "C")
                for (int c = Hex(2); c <= Hex(3); c++)
                    Classes[c] = int.Parse(parts[1], CultureInfo.InvariantCulture);
        }
    }

    /// <summary>Text in form C. Unpaired surrogates stay as they are.</summary>
    public static string Normalize(string text)
    {
        if (!text.AsSpan().ContainsAnyExceptInRange('\0', '\u02FF'))
            return text; // nothing below U+0300 combines or decomposes further
        var points = new List<int>(text.Length);
        for (int i = 0; i < text.Length; i++)
        {
            if (i + 1 < text.Length && char.IsSurrogatePair(text[i], text[i + 1]))
                Decompose(char.ConvertToUtf32(text[i], text[++i]), points);
            else
                Decompose(text[i], points);
        }
        Reorder(points);
        Compose(points);
        var result = new StringBuilder(text.Length);
        foreach (int point in points)
        {
            if (point > 0xFFFF)
                result.Append(char.ConvertFromUtf32(point));
            else
                result.Append((char)point);
        }
        return result.ToString();
    }

    private static int Class(int point) => Classes.GetValueOrDefault(point);

    private static void Decompose(int point, List<int> to)
    {
        int hangul = point - HangulBase;
        if (hangul is >= 0 and < LCount * VCount * TCount)
        {
            to.Add(LBase + hangul / (VCount * TCount));
            to.Add(VBase + hangul % (VCount * TCount) / TCount);
            if (hangul % TCount != 0)
                to.Add(TBase + hangul % TCount);
        }
        else if (Decompositions.TryGetValue(point, out int[]? parts))
            foreach (int part in parts)
                Decompose(part, to);
        else
            to.Add(point);
    }

    /// <summary>Sorts each run of combining marks by class, marks of one class in their order.</summary>
    private static void Reorder(List<int> points)
    {
        for (int i = 1; i < points.Count; i++)
        {
            int point = points[i],
                order = Class(point),
                j = i;
            for (; order != 0 && j > 0 && Class(points[j - 1]) > order; j--)
                points[j] = points[j - 1];
            points[j] = point;
        }
    }

    private static void Compose(List<int> points)
    {
        int starter = -1,
            lastClass = -1,
            write = 0;
        for (int read = 0; read < points.Count; read++)
        {
            int point = points[read],
                order = Class(point);
            // A mark reaches its starter unless another of the same or a higher class stands between.
            if (starter >= 0 && (lastClass < order || lastClass == -1) && Pair(points[starter], point) is { } composed)
            {
                points[starter] = composed;
                continue;
            }
            if (order == 0)
                (starter, lastClass) = (write, -1);
            else
                lastClass = order;
            points[write++] = point;
        }
        points.RemoveRange(write, points.Count - write);
    }

    private static int? Pair(int first, int second)
    {
        int l = first - LBase,
            v = second - VBase,
            s = first - HangulBase,
            t = second - TBase;
        if (l is >= 0 and < LCount && v is >= 0 and < VCount)
            return HangulBase + (l * VCount + v) * TCount;
        if (s is >= 0 and < LCount * VCount * TCount && s % TCount == 0 && t is > 0 and < TCount)
            return first + t;
        return Compositions.TryGetValue((first, second), out int composed) ? composed : null;
    }
}
