using System.Collections.Concurrent;
using System.Globalization;
using System.Text;

namespace SimpleR1.Models.Tokenization.Patterns;

/// <summary>
/// Unicode's properties as sets: general categories from .NET, scripts and a few others from properties.txt, which
/// make_properties.pl makes.
/// </summary>
internal static class UnicodeProperties
{
    /// <summary>Short names of the general categories, in the order of <see cref="UnicodeCategory"/>.</summary>
    private static readonly string[] Categories =
    [
        .. ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Zs Zl Zp Cc Cf Cs Co Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Cn").Split(' '),
    ];

    /// <summary>Long names of categories and of groups of them, by loose name.</summary>
    private static readonly Dictionary<string, string> LongNames = new()
    {
        ["letter"] = "L",
        ["casedletter"] = "LC",
        ["uppercaseletter"] = "Lu",
        ["lowercaseletter"] = "Ll",
        ["titlecaseletter"] = "Lt",
        ["modifierletter"] = "Lm",
        ["otherletter"] = "Lo",
        ["mark"] = "M",
        ["combiningmark"] = "M",
        ["nonspacingmark"] = "Mn",
        ["spacingmark"] = "Mc",
        ["enclosingmark"] = "Me",
        ["number"] = "N",
        ["decimalnumber"] = "Nd",
        ["letternumber"] = "Nl",
        ["othernumber"] = "No",
        ["separator"] = "Z",
        ["spaceseparator"] = "Zs",
        ["lineseparator"] = "Zl",
        ["paragraphseparator"] = "Zp",
        ["other"] = "C",
        ["control"] = "Cc",
        ["format"] = "Cf",
        ["surrogate"] = "Cs",
        ["privateuse"] = "Co",
        ["unassigned"] = "Cn",
        ["punctuation"] = "P",
        ["connectorpunctuation"] = "Pc",
        ["dashpunctuation"] = "Pd",
        ["openpunctuation"] = "Ps",
        ["closepunctuation"] = "Pe",
        ["initialpunctuation"] = "Pi",
        ["finalpunctuation"] = "Pf",
        ["otherpunctuation"] = "Po",
        ["symbol"] = "S",
        ["mathsymbol"] = "Sm",
        ["currencysymbol"] = "Sc",
        ["modifiersymbol"] = "Sk",
        ["othersymbol"] = "So",
    };

    /// <summary>Extensions H, I and J of Han, which are younger than properties.txt.</summary>
    private static readonly CodePointSet NewHan = CodePointSet.Of([(0x2EBF0, 0x2EE5D), (0x31350, 0x33479)]);

    private static readonly Lazy<CodePointSet[]> byCategory = new(ReadCategories);
    private static readonly Lazy<Dictionary<string, CodePointSet>> fromFile = new(ReadFile);
    private static readonly ConcurrentDictionary<string, CodePointSet?> sets = new();

    /// <summary>What <c>\s</c> means: the property White_Space, as in .NET.</summary>
    public static CodePointSet Space => Find("White_Space")!;

    /// <summary>What <c>\w</c> means: letters, marks, decimal digits, connectors, and what else is alphabetic.</summary>
    public static CodePointSet Word => Find("Word")!;

    /// <summary>
    /// What <c>\w</c> means outside of a class, and at the boundaries of words: there Oniguruma takes superscripts and
    /// fractions of Latin-1 too.
    /// </summary>
    public static CodePointSet LoneWord { get; } =
        Word.Union(CodePointSet.Of([(0xB2, 0xB3), (0xB9, 0xB9), (0xBC, 0xBE)]));

    /// <summary>Whether a code point belongs to a word.</summary>
    public static bool IsWord(Rune rune) => Word.Contains(rune.Value);

    /// <summary>
    /// The short name of a general category, or of a group of them that .NET's patterns know too; null for others.
    /// </summary>
    public static string? Category(string name)
    {
        string loose = Loose(name);
        string? category = LongNames.GetValueOrDefault(loose);
        category ??= Categories.FirstOrDefault(c => c.Equals(loose, StringComparison.OrdinalIgnoreCase));
        if (category is null && loose.Length == 1 && "clmnpsz".Contains(loose[0]))
            category = loose.ToUpperInvariant();
        return category == "LC" ? null : category;
    }

    /// <summary>The set of a property's name, written in any of the usual ways; null for an unknown name.</summary>
    public static CodePointSet? Find(string name) => sets.GetOrAdd(Loose(name), Build);

    private static CodePointSet? Build(string loose)
    {
        if (Category(loose) is { } category)
            return OfCategories(category);
        return loose switch
        {
            "lc" or "l&" or "casedletter" => OfCategories("Lu", "Ll", "Lt"),
            "any" => CodePointSet.Of(0, 0x10FFFF),
            "ascii" => CodePointSet.Of(0, 0x7F),
            "assigned" => OfCategories("Cn").Complement(),
            "digit" => OfCategories("Nd"),
            "cntrl" => OfCategories("Cc"),
            "blank" => OfCategories("Zs").Union(CodePointSet.Of('\t', '\t')),
            "space" or "whitespace" => OfCategories("Z").Union(CodePointSet.Of([(9, 13), (0x85, 0x85)])),
            "xdigit" => CodePointSet.Of([('0', '9'), ('A', 'F'), ('a', 'f')]),
            "punct" => OfCategories("P", "S"),
            "alpha" or "alphabetic" => fromFile.Value["alphabetic"].Union(OfCategories("L", "Nl")),
            "lower" or "lowercase" => fromFile.Value["lowercase"].Union(OfCategories("Ll")),
            "upper" or "uppercase" => fromFile.Value["uppercase"].Union(OfCategories("Lu")),
            "han" or "hani" => fromFile.Value["han"].Union(NewHan),
            "alnum" => Find("Alphabetic")!.Union(OfCategories("Nd")),
            "word" => Find("Alphabetic")!.Union(OfCategories("M", "Nd", "Pc")),
            "graph" => OfCategories("Cc", "Cn", "Cs").Union(Find("White_Space")!).Complement(),
            "print" => Find("Graph")!.Union(OfCategories("Zs")),
            _ => fromFile.Value.GetValueOrDefault(loose),
        };
    }

    private static CodePointSet OfCategories(params string[] names)
    {
        var chosen = Enumerable
            .Range(0, Categories.Length)
            .Where(i => names.Any(name => Categories[i].StartsWith(name, StringComparison.Ordinal)));
        return CodePointSet.Of(chosen.SelectMany(i => byCategory.Value[i].Ranges));
    }

    /// <summary>A name without case, spaces, hyphens and underscores.</summary>
    private static string Loose(string name) =>
        string.Concat(name.Where(c => c is not (' ' or '_' or '-'))).ToLowerInvariant();

    private static CodePointSet[] ReadCategories()
    {
        var ranges = new List<(int First, int Last)>[Categories.Length];
        for (int i = 0; i < ranges.Length; i++)
            ranges[i] = [];

        int start = 0;
        for (int point = 1; point <= 0x110000; point++)
        {
            var category = CharUnicodeInfo.GetUnicodeCategory(start);
            if (point <= 0x10FFFF && CharUnicodeInfo.GetUnicodeCategory(point) == category)
                continue;
            ranges[(int)category].Add((start, point - 1));
            start = point;
        }

        return [.. ranges.Select(CodePointSet.Of)];
    }

    private static Dictionary<string, CodePointSet> ReadFile()
    {
        var found = new Dictionary<string, CodePointSet>();
        using var stream = typeof(UnicodeProperties).Assembly.GetManifestResourceStream("properties.txt")!;
        using var reader = new StreamReader(stream);
        while (reader.ReadLine() is { } line)
        {
            if (line.StartsWith('#'))
                continue;
            string[] parts = line.Split(' ');
            found[Loose(parts[0])] = CodePointSet.Of(parts.Skip(1).Select(Range));
        }

        return found;

        static (int First, int Last) Range(string text)
        {
            int[] ends = [.. text.Split('-').Select(e => Convert.ToInt32(e, 16))];
            return (ends[0], ends[^1]);
        }
    }
}
