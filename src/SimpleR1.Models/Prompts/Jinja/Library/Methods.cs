using System.Numerics;
using SimpleR1.Models.Prompts.Jinja.Texts;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Library;

/// <summary>The methods of values.</summary>
internal static class Methods
{
    private static readonly Dictionary<string, Func<Mapping, CallValues, object>> OfMappings = new()
    {
        ["copy"] = (mapping, _) => mapping,
        ["get"] = (mapping, call) =>
        {
            var values = new Parameters(1, "key", "default").Bind("get", call);
            return mapping.Entries.GetValueOrDefault(values.Value(0, None.Value)) ?? values.Value(1, None.Value);
        },
        ["items"] = (mapping, _) =>
            new DictView("dict_items", [.. mapping.Entries.Select(e => Values.Sequence.Tuple(e.Key, e.Value))]),
        ["keys"] = (mapping, _) => new DictView("dict_keys", [.. mapping.Entries.Keys]),
        ["values"] = (mapping, _) => new DictView("dict_values", [.. mapping.Entries.Values]),
    };

    private static readonly Dictionary<string, Func<Values.Sequence, CallValues, object>> OfSequences = new()
    {
        ["copy"] = (sequence, _) => sequence,
        ["count"] = (sequence, call) => new BigInteger(sequence.Items.Count(item => AreEqual(item, Only(call)))),
        ["index"] = (sequence, call) => IndexOf(sequence.Items, Only(call)),
    };

    /// <summary>Methods that change a list or a dict: transformers' sandbox refuses them too.</summary>
    private static readonly string[] Changes =
    [
        "append",
        "clear",
        "extend",
        "insert",
        "pop",
        "popitem",
        "remove",
        "reverse",
        "setdefault",
        "sort",
        "update",
    ];

    /// <summary>Every name that some value has as a method.</summary>
    public static readonly IReadOnlySet<string> Names = new HashSet<string>([
        .. OfMappings.Keys,
        .. OfSequences.Keys,
        .. TextMethods.All.Keys,
        .. Changes,
        "cycle",
        "changed",
    ]);

    /// <summary>A method bound to its value; null if the value has none of this name.</summary>
    public static Callable? Find(object value, string name)
    {
        if (value is Mapping mapping && OfMappings.TryGetValue(name, out var ofMapping))
            return new(name, call => ofMapping(mapping, call));
        if (value is Values.Sequence sequence && OfSequences.TryGetValue(name, out var ofSequence))
            return name == "copy" && sequence.IsTuple ? null : new(name, call => ofSequence(sequence, call));
        if (value is Mapping or Values.Sequence { IsTuple: false } && IsChange(value, name))
            return new(
                name,
                _ => throw new ValueException($"{name} would change a {TypeNames.Of(value)}; that is not allowed")
            );
        if (value is string or Markup && TextMethods.All.TryGetValue(name, out var method))
            return new(name, call => method.Invoke(value, name, call));
        return null;
    }

    private static bool IsChange(object value, string name) =>
        value is Mapping
            ? name is "clear" or "pop" or "popitem" or "setdefault" or "update"
            : Changes.Contains(name) && name is not ("popitem" or "setdefault" or "update");

    private static object Only(CallValues call) =>
        call.Positional.Count == 1 ? call.Positional[0] : throw new ValueException("this method takes one argument");

    private static bool AreEqual(object a, object b) => PythonEquality.Instance.Equals(a, b);

    private static object IndexOf(IReadOnlyList<object> items, object value)
    {
        for (int i = 0; i < items.Count; i++)
            if (AreEqual(items[i], value))
                return new BigInteger(i);
        throw new ValueException($"{PythonText.Repr(value)} is not in the list");
    }
}
