using System.Numerics;

namespace SimpleR1.Models.Prompts.Jinja.Values;

// A template's values are objects: bool, BigInteger (int), double (float), string, and the types of this folder.

/// <summary>Python's None.</summary>
internal sealed class None
{
    public static readonly None Value = new();

    private None() { }
}

/// <summary>The value of a name or member that does not exist. It prints as nothing, and most uses are errors.</summary>
internal sealed record Undefined(string Problem)
{
    public static Undefined Name(string name) => new($"'{name}' is undefined");
}

/// <summary>Text that the filters safe and escape have marked: adding other text to it escapes that.</summary>
internal sealed record Markup(string Text)
{
    public static string Escape(string text) =>
        text.Replace("&", "&amp;", StringComparison.Ordinal)
            .Replace(">", "&gt;", StringComparison.Ordinal)
            .Replace("<", "&lt;", StringComparison.Ordinal)
            .Replace("'", "&#39;", StringComparison.Ordinal)
            .Replace("\"", "&#34;", StringComparison.Ordinal);
}

/// <summary>Python's list and tuple; templates cannot change one.</summary>
internal sealed class Sequence(IReadOnlyList<object> items, bool isTuple = false)
{
    public IReadOnlyList<object> Items { get; } = items;
    public bool IsTuple { get; } = isTuple;
    public string TypeName => IsTuple ? "tuple" : "list";

    public static Sequence Tuple(params object[] items) => new(items, isTuple: true);
}

/// <summary>Python's dict, in the order of insertion.</summary>
internal sealed class Mapping
{
    public Mapping() { }

    public Mapping(IEnumerable<KeyValuePair<object, object>> entries)
    {
        foreach (var (key, value) in entries)
            Entries[key] = value;
    }

    public OrderedDictionary<object, object> Entries { get; } = new(PythonEquality.Instance);
}

/// <summary>Python's range.</summary>
internal sealed record NumberRange(BigInteger Start, BigInteger Stop, BigInteger Step)
{
    public BigInteger Count =>
        Step > 0
            ? BigInteger.Max(0, (Stop - Start + Step - 1) / Step)
            : BigInteger.Max(0, (Start - Stop - Step - 1) / -Step);

    public IReadOnlyList<object> ToList()
    {
        var items = new object[(int)Count];
        for (int i = 0; i < items.Length; i++)
            items[i] = Start + i * Step;
        return items;
    }
}

/// <summary>What keys(), values() and items() of a dict return.</summary>
internal sealed record DictView(string Kind, IReadOnlyList<object> Items);

/// <summary>A generator: its items can be taken once.</summary>
internal sealed class OneShot(IEnumerable<object> items)
{
    private readonly IEnumerator<object> enumerator = items.GetEnumerator();

    public IEnumerable<object> Rest()
    {
        while (enumerator.MoveNext())
            yield return enumerator.Current;
    }
}

/// <summary>The one thing that a template can change from an inner scope.</summary>
internal sealed class Namespace
{
    public OrderedDictionary<string, object> Members { get; } = [];
}

/// <summary>Something that a template can call: a macro, a built-in function, a method of a value.</summary>
internal sealed record Callable(string Name, Func<CallValues, object> Invoke);

/// <summary>The values that a call gives.</summary>
internal sealed record CallValues(IReadOnlyList<object> Positional, IReadOnlyDictionary<string, object> Named)
{
    public static readonly CallValues Empty = new([], new Dictionary<string, object>());

    /// <summary>The arguments without the first ones.</summary>
    public CallValues Skip(int count) => new([.. Positional.Skip(count)], Named);
}
