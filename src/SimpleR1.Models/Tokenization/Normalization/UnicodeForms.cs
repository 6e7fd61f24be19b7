using System.Globalization;
using System.Text;

namespace SimpleR1.Models.Tokenization.Normalization;

/// <summary>
/// Unicode's normalization forms (UAX #15). .NET leaves them to the system's ICU library, which a small container may
/// lack and whose version may differ from machine to machine; token ids must not depend on that.
/// make_unicode_forms.py makes the table.
/// </summary>
internal static class UnicodeForms
{
    // Hangul syllables are arithmetic: a leading consonant (L), a vowel (V), a trailing consonant (T).
    private const int HangulBase = 0xAC00;
    private const int LBase = 0x1100;
    private const int VBase = 0x1161;
    private const int TBase = 0x11A7;
    private const int LCount = 19;
    private const int VCount = 21;
    private const int TCount = 28;

    private static readonly Dictionary<int, int[]> Decompositions = [];
    private static readonly Dictionary<int, int[]> Compatible = []; // compatibility decompositions
    private static readonly Dictionary<(int, int), int> Compositions = [];
    private static readonly Dictionary<int, int> Classes = []; // combining classes other than 0

    static UnicodeForms()
    {
        using var reader = new StreamReader(
            typeof(UnicodeForms).Assembly.GetManifestResourceStream("unicode_forms.txt")!
        );
        while (reader.ReadLine() is { } line)
            ReadLine(line.Split(' '));
    }

    /// <summary>One line of unicode_forms.txt; its first line says what the letters mean.</summary>
    private static void ReadLine(string[] parts)
    {
        if (parts[0] is "D" or "X")
        {
            int[] decomposition = [.. Enumerable.Range(2, parts.Length - 2).Select(Hex)];
            Decompositions[Hex(1)] = decomposition;
            if (parts[0] == "D" && decomposition.Length == 2)
                Compositions[(decomposition[0], decomposition[1])] = Hex(1);
        }
        else if (parts[0] == "K")
            Compatible[Hex(1)] = [.. Enumerable.Range(2, parts.Length - 2).Select(Hex)];
        else if (parts[0] == "C")
        {
            int order = int.Parse(parts[1], CultureInfo.InvariantCulture);
            for (int point = Hex(2); point <= Hex(3); point++)
                Classes[point] = order;
        }

        int Hex(int i) => int.Parse(parts[i], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }

    /// <summary>Form C: characters composed.</summary>
    public static string Nfc(string text) => Normalize(text, '\u02FF', compatible: false, compose: true);

    /// <summary>Form D: characters decomposed.</summary>
    public static string Nfd(string text) => Normalize(text, '\u00BF', compatible: false, compose: false);

    /// <summary>Form KC: compatible characters made equal, then composed.</summary>
    public static string Nfkc(string text) => Normalize(text, '\u009F', compatible: true, compose: true);

    /// <summary>Form KD: compatible characters made equal, and decomposed.</summary>
    public static string Nfkd(string text) => Normalize(text, '\u009F', compatible: true, compose: false);

    /// <summary>Unpaired surrogates stay as they are.</summary>
    /// <param name="unchanged">No character up to this one changes in the form.</param>
    private static string Normalize(string text, char unchanged, bool compatible, bool compose)
    {
        if (!text.AsSpan().ContainsAnyExceptInRange('\0', unchanged))
            return text;

        var points = new List<int>(text.Length);
        for (int i = 0; i < text.Length; i++)
        {
            if (i + 1 < text.Length && char.IsSurrogatePair(text[i], text[i + 1]))
                Decompose(char.ConvertToUtf32(text[i], text[++i]), compatible, points);
            else
                Decompose(text[i], compatible, points);
        }

        Reorder(points);
        if (compose)
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

    private static void Decompose(int point, bool compatible, List<int> points)
    {
        int hangul = point - HangulBase;
        if (hangul is >= 0 and < LCount * VCount * TCount)
        {
            points.Add(LBase + hangul / (VCount * TCount));
            points.Add(VBase + hangul % (VCount * TCount) / TCount);
            if (hangul % TCount != 0)
                points.Add(TBase + hangul % TCount);
        }
        else if (
            Decompositions.TryGetValue(point, out int[]? parts)
            || (compatible && Compatible.TryGetValue(point, out parts))
        )
            foreach (int part in parts)
                Decompose(part, compatible, points);
        else
            points.Add(point);
    }

    /// <summary>Sorts each run of combining marks by class, marks of one class in their order.</summary>
    private static void Reorder(List<int> points)
    {
        for (int i = 1; i < points.Count; i++)
        {
            int point = points[i];
            int order = Class(point);
            int j = i;
            for (; order != 0 && j > 0 && Class(points[j - 1]) > order; j--)
                points[j] = points[j - 1];
            points[j] = point;
        }
    }

    private static void Compose(List<int> points)
    {
        int starter = -1;
        int lastClass = -1;
        int write = 0;
        for (int read = 0; read < points.Count; read++)
        {
            int point = points[read];
            int order = Class(point);

            // A mark reaches its starter unless another of the same or a higher class is between them.
            if (starter >= 0 && (lastClass < order || lastClass == -1) && Pair(points[starter], point) is { } composed)
            {
                points[starter] = composed;
                continue;
            }

            if (order == 0)
                starter = write;
            lastClass = order == 0 ? -1 : order;
            points[write++] = point;
        }

        points.RemoveRange(write, points.Count - write);
    }

    private static int? Pair(int first, int second)
    {
        int l = first - LBase;
        int v = second - VBase;
        int s = first - HangulBase;
        int t = second - TBase;
        if (l is >= 0 and < LCount && v is >= 0 and < VCount)
            return HangulBase + (l * VCount + v) * TCount;
        if (s is >= 0 and < LCount * VCount * TCount && s % TCount == 0 && t is > 0 and < TCount)
            return first + t;
        return Compositions.TryGetValue((first, second), out int composed) ? composed : null;
    }
}
