using System.Text;

namespace SimpleR1.Models.Tokenization.Patterns;

internal sealed partial class PatternTranslator
{
    /// <summary>A part of a class.</summary>
    /// <param name="Native">The same in .NET's classes, for texts without characters beyond U+FFFF; or null.</param>
    private sealed record ClassItem(Func<CodePointSet> Set, string? Native);

    /// <summary>Reads a class after its [, up to its ].</summary>
    private string Class()
    {
        bool negated = Skip("^");
        var (items, intersected) = ClassItems();
        if (intersected is null)
            return EmitClass(items, negated);

        var set = Union(items).Intersect(intersected);
        return Emit(Folded(negated ? set.Complement() : set));
    }

    /// <summary>The items of a class, and the set after its &amp;&amp;, if it has one.</summary>
    private (List<ClassItem> Items, CodePointSet? Intersected) ClassItems()
    {
        var items = new List<ClassItem>();
        bool first = true;
        for (; ; first = false)
        {
            if (!More)
                throw Unsupported("a class without an end");
            if (!first && Skip("]"))
                return (items, null);
            if (Skip("&&"))
            {
                var (right, rest) = ClassItems();
                var set = Union(right);
                return (items, rest is null ? set : set.Intersect(rest));
            }

            items.Add(NextItem());
        }
    }

    private ClassItem NextItem()
    {
        if (Skip("[:"))
            return PosixClass();
        if (Skip("["))
        {
            bool negated = Skip("^");
            var (items, intersected) = ClassItems();
            var set = Union(items);
            set = intersected is null ? set : set.Intersect(intersected);
            var chosen = negated ? set.Complement() : set;
            return new(() => chosen, null);
        }

        if (Skip("\\"))
        {
            if (SetEscape() is { } item)
                return item;
            if (Skip("b"))
                return Range('\b', '\b');
            return RangeFrom(PointEscape());
        }

        return RangeFrom(NextPoint());
    }

    /// <summary>A code point, or the range that it begins.</summary>
    private ClassItem RangeFrom(int first)
    {
        bool isRange = at + 1 < pattern.Length && pattern[at] == '-' && pattern[at + 1] is not (']' or '[');
        if (!isRange)
            return Range(first, first);
        at++;
        int last;
        if (Skip("\\"))
        {
            if (SetEscape() is not null)
                throw Unsupported("a class as the end of a range");
            last = PointEscape();
        }
        else
            last = NextPoint();

        return first <= last ? Range(first, last) : throw Unsupported("a range that ends before it starts");
    }

    private static ClassItem Range(int first, int last)
    {
        string native = first > 0xFFFF ? "" : Hex(first) + "-" + Hex(Math.Min(last, 0xFFFF));
        return new(() => CodePointSet.Of(first, last), native);
    }

    private ClassItem PosixClass()
    {
        bool negated = Skip("^");
        int end = pattern.IndexOf(":]", at, StringComparison.Ordinal);
        string name = end < 0 ? "" : pattern[at..end];
        var set = UnicodeProperties.Find(name) ?? throw Unsupported($"the class [:{name}:]");
        at = end + 2;
        return new(() => negated ? set.Complement() : set, null);
    }

    /// <summary>An escape that stands for a set, after its \; null for others, with nothing read.</summary>
    private ClassItem? SetEscape()
    {
        char letter = More ? pattern[at] : '\0';
        switch (letter)
        {
            case 's' or 'S':
                at++;
                return Item(UnicodeProperties.Space, $@"\{letter}", letter == 'S');
            case 'd' or 'D':
                at++;
                return Item(UnicodeProperties.Find("Nd")!, $@"\{letter}", letter == 'D');
            case 'w' or 'W':
                at++;
                string? native = letter == 'w' ? NativeWord : null;
                return Item(UnicodeProperties.Word, native, letter == 'W');
            case 'h' or 'H':
                at++;
                return Item(UnicodeProperties.Find("XDigit")!, null, letter == 'H');
            case 'p' or 'P':
                at++;
                return Property(letter == 'P');
            default:
                return null;
        }
    }

    /// <summary>What <c>\w</c> means below U+10000, without the marks that are marks anyway.</summary>
    private const string NativeWord = @"\p{L}\p{M}\p{Nl}\p{Nd}\p{Pc}\u24B6-\u24E9";

    private static ClassItem Item(CodePointSet set, string? native, bool negated) =>
        new(() => negated ? set.Complement() : set, native);

    private ClassItem Property(bool negated)
    {
        string name = Skip("{") ? UpTo('}') : Take(1);
        if (name.StartsWith('^'))
        {
            negated = !negated;
            name = name[1..];
        }

        if (UnicodeProperties.Category(name) is { } category)
            return new(
                () => negated ? UnicodeProperties.Find(name)!.Complement() : UnicodeProperties.Find(name)!,
                $@"\{(negated ? 'P' : 'p')}{{{category}}}"
            );
        var set = UnicodeProperties.Find(name) ?? throw Unsupported($@"the property \p{{{name}}}");
        return Item(set, null, negated);
    }

    private string UpTo(char end)
    {
        int index = pattern.IndexOf(end, at);
        if (index < 0)
            throw Unsupported($"a missing {end}");
        string text = pattern[at..index];
        at = index + 1;
        return text;
    }

    private static CodePointSet Union(IEnumerable<ClassItem> items) =>
        CodePointSet.Of(items.SelectMany(item => item.Set().Ranges));

    private CodePointSet Folded(CodePointSet set) => ignoreCase ? CaseFolding.Close(set) : set;

    private string EmitClass(List<ClassItem> items, bool negated)
    {
        bool native = !astral && !ignoreCase && items.All(item => item.Native is not null);
        if (!native)
        {
            var set = Folded(Union(items));
            return Emit(negated ? set.Complement() : set);
        }

        string inside = string.Concat(items.Select(item => item.Native));
        if (inside.Length == 0)
            return negated ? @"[\s\S]" : "(?!)";
        return $"[{(negated ? "^" : "")}{inside}]";
    }

    /// <summary>A set as a .NET pattern that matches one of its code points.</summary>
    private string Emit(CodePointSet set)
    {
        var basic = new StringBuilder();
        AddRanges(basic, set, 0, 0xD7FF);
        AddRanges(basic, set, 0xE000, 0xFFFF);
        string units = basic.Length == 0 ? "(?!)" : $"[{basic}]";
        string pairs = astral ? Pairs(set) : "";
        return pairs.Length == 0 ? units : $"(?:{units}|{pairs})";
    }

    private static void AddRanges(StringBuilder text, CodePointSet set, int from, int to)
    {
        foreach (var (first, last) in set.Ranges)
            if (last >= from && first <= to)
                text.Append(Hex(Math.Max(first, from))).Append('-').Append(Hex(Math.Min(last, to)));
    }

    /// <summary>The set's code points beyond U+FFFF as alternatives of surrogate pairs; empty if it has none.</summary>
    private static string Pairs(CodePointSet set)
    {
        // The low surrogates that each high one takes, then the high ones that take the same.
        var lows = new SortedDictionary<int, StringBuilder>();
        foreach (var (first, last) in set.Ranges.Where(r => r.Last > 0xFFFF))
        {
            int start = Math.Max(first, 0x10000) - 0x10000;
            int end = last - 0x10000;
            for (int high = start >> 10; high <= end >> 10; high++)
            {
                int low = high == start >> 10 ? start & 0x3FF : 0;
                int lowLast = high == end >> 10 ? end & 0x3FF : 0x3FF;
                if (!lows.TryGetValue(high, out var text))
                    lows[high] = text = new();
                text.Append(Hex(0xDC00 + low)).Append('-').Append(Hex(0xDC00 + lowLast));
            }
        }

        var alternatives = lows.GroupBy(p => p.Value.ToString(), p => Hex(0xD800 + p.Key))
            .Select(g => $"[{string.Concat(g)}][{g.Key}]");
        return string.Join('|', alternatives);
    }
}
