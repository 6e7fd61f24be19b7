using System.Numerics;
using SimpleR1.Models.Prompts.Jinja.Texts;

namespace SimpleR1.Models.Prompts.Jinja.Values;

/// <summary>Python's bool(), len(), iteration and order of values.</summary>
internal static class Protocols
{
    public static bool IsTrue(object value) =>
        value switch
        {
            bool flag => flag,
            None or Undefined => false,
            BigInteger integer => !integer.IsZero,
            double number => number != 0,
            string text => text.Length > 0,
            Markup markup => markup.Text.Length > 0,
            Sequence sequence => sequence.Items.Count > 0,
            Mapping mapping => mapping.Entries.Count > 0,
            NumberRange range => !range.Count.IsZero,
            DictView view => view.Items.Count > 0,
            _ => true,
        };

    /// <exception cref="ValueException">The value has no length.</exception>
    public static int Length(object value) =>
        value switch
        {
            string or Markup => PythonText.Length(PythonText.Plain(value)),
            Sequence sequence => sequence.Items.Count,
            Mapping mapping => mapping.Entries.Count,
            NumberRange range => (int)range.Count,
            DictView view => view.Items.Count,
            Undefined => 0,
            LoopState loop => loop.Length,
            _ => throw new ValueException($"object of type '{TypeNames.Of(value)}' has no len()"),
        };

    public static bool IsIterable(object value) =>
        value is string or Markup or Sequence or Mapping or NumberRange or DictView or OneShot or Undefined;

    /// <summary>The items of a value; a dict's are its keys, a text's its characters.</summary>
    /// <exception cref="ValueException">The value is not iterable.</exception>
    public static IEnumerable<object> Iterate(object value) =>
        value switch
        {
            string or Markup => PythonText.Characters(PythonText.Plain(value)),
            Sequence sequence => sequence.Items,
            Mapping mapping => mapping.Entries.Keys,
            NumberRange range => range.ToList(),
            DictView view => view.Items,
            OneShot generator => generator.Rest(),
            Undefined => [],
            _ => throw new ValueException($"'{TypeNames.Of(value)}' object is not iterable"),
        };

    /// <summary>The items from the last to the first.</summary>
    /// <exception cref="ValueException">The value has no order.</exception>
    public static IEnumerable<object> IterateBack(object value) =>
        value is OneShot
            ? throw new ValueException("'generator' object is not reversible; make a list of it with |list")
            : Iterate(value).Reverse();

    /// <exception cref="ValueException">The values are of types that have no order.</exception>
    public static int Compare(object a, object b)
    {
        if (Numbers.TryRead(a, out object x) && Numbers.TryRead(b, out object y))
            return Numbers.Compare(x, y);
        return (a, b) switch
        {
            (string or Markup, string or Markup) => PythonText.Compare(PythonText.Plain(a), PythonText.Plain(b)),
            (Sequence s, Sequence t) when s.IsTuple == t.IsTuple => CompareLists(s.Items, t.Items),
            (Undefined undefined, _) => throw new ValueException(undefined.Problem),
            (_, Undefined undefined) => throw new ValueException(undefined.Problem),
            _ => throw new ValueException(
                $"'<' not supported between instances of '{TypeNames.Of(a)}' and '{TypeNames.Of(b)}'"
            ),
        };
    }

    private static int CompareLists(IReadOnlyList<object> a, IReadOnlyList<object> b)
    {
        for (int i = 0; i < Math.Min(a.Count, b.Count); i++)
            if (!PythonEquality.Instance.Equals(a[i], b[i]))
                return Compare(a[i], b[i]);
        return a.Count.CompareTo(b.Count);
    }

    /// <summary>Python's in.</summary>
    /// <exception cref="ValueException">The container holds nothing, or a text is asked for something else.</exception>
    public static bool Contains(object container, object value)
    {
        if (container is string text)
            Meter.Step(1 + text.Length / 64);
        return container switch
        {
            string or Markup when value is string or Markup => PythonText
                .Plain(container)
                .Contains(PythonText.Plain(value), StringComparison.Ordinal),
            string or Markup when value is Undefined undefined => throw new ValueException(undefined.Problem),
            string or Markup => throw new ValueException(
                $"'in <string>' requires string as left operand, not {TypeNames.Of(value)}"
            ),
            Mapping mapping => mapping.Entries.ContainsKey(value),
            _ when IsIterable(container) => Iterate(container).Any(item => PythonEquality.Instance.Equals(item, value)),
            _ => throw new ValueException($"argument of type '{TypeNames.Of(container)}' is not iterable"),
        };
    }

    /// <summary>A stable sort, for which comparisons may throw.</summary>
    public static object[] Sort(IEnumerable<object> items, Func<object, object> key, bool descending)
    {
        // Python's reverse keeps the order of equal items.
        var keyed = items.Select(item => (Key: key(item), Item: item)).ToList();
        for (int width = 1; width < keyed.Count; width *= 2)
        {
            var merged = new List<(object Key, object Item)>(keyed.Count);
            for (int start = 0; start < keyed.Count; start += 2 * width)
                Merge(keyed, start, width, merged, descending);
            keyed = merged;
        }
        return [.. keyed.Select(k => k.Item)];
    }

    private static void Merge(
        List<(object Key, object Item)> source,
        int start,
        int width,
        List<(object Key, object Item)> merged,
        bool descending
    )
    {
        int middle = Math.Min(start + width, source.Count);
        int end = Math.Min(start + 2 * width, source.Count);
        int left = start;
        int right = middle;
        while (left < middle || right < end)
        {
            bool takeRight = left == middle || right < end && IsBefore(source[right].Key, source[left].Key, descending);
            merged.Add(source[takeRight ? right++ : left++]);
        }
    }

    private static bool IsBefore(object a, object b, bool descending) =>
        (descending ? Compare(b, a) : Compare(a, b)) < 0;
}
