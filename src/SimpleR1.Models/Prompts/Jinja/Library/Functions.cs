using System.Numerics;
using SimpleR1.Models.Prompts.Jinja.Texts;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Library;

/// <summary>The functions that every template knows.</summary>
internal static class Functions
{
    /// <summary>Longest range; that of Jinja's sandbox.</summary>
    private const int MaxRange = 100_000;

    /// <summary>Names that a template may call without defining them.</summary>
    public static readonly IReadOnlySet<string> Names = Create(default).Keys.ToHashSet();

    /// <param name="now">The local time that strftime_now prints.</param>
    public static Dictionary<string, object> Create(DateTime now)
    {
        Callable[] functions =
        [
            new("dict", Dict),
            new("namespace", MakeNamespace),
            new("raise_exception", Raise),
            new("range", Range),
            new("strftime_now", call => DateFormat.Apply(now, PythonText.Plain(Only(call)))),
        ];
        return functions.ToDictionary(f => f.Name, f => (object)f);
    }

    private static object Only(CallValues call) =>
        call.Positional.Count + call.Named.Count == 1
            ? call.Positional.Concat(call.Named.Values).First()
            : throw new ValueException("this function takes one argument");

    private static object Raise(CallValues call) => throw new ValueException(PythonText.Of(Only(call)));

    private static object Range(CallValues call)
    {
        BigInteger[] numbers = [.. call.Positional.Select(Numbers.Integer)];
        var range = numbers switch
        {
            [var stop] => new NumberRange(0, stop, 1),
            [var start, var stop] => new NumberRange(start, stop, 1),
            [var start, var stop, var step] => new NumberRange(start, stop, step),
            _ => throw new ValueException($"range takes 1 to 3 arguments, found {numbers.Length}"),
        };
        if (range.Step.IsZero)
            throw new ValueException("range() arg 3 must not be zero");
        if (range.Count > MaxRange)
            throw new ValueException($"range too big: more than {MaxRange} items");
        return range;
    }

    private static Mapping Dict(CallValues call)
    {
        var result = new Mapping();
        foreach (object source in call.Positional)
        foreach (var (key, value) in Pairs(source))
            result.Entries[key] = value;
        foreach (var (name, value) in call.Named)
            result.Entries[name] = value;
        return result;
    }

    private static IEnumerable<KeyValuePair<object, object>> Pairs(object source)
    {
        if (source is Mapping mapping)
            return mapping.Entries;
        return Protocols
            .Iterate(source)
            .Select(pair =>
                Protocols.Iterate(pair).Take(3).ToArray() is [var key, var value]
                    ? KeyValuePair.Create(key, value)
                    : throw new ValueException("dict: expected pairs of a key and a value")
            );
    }

    private static object MakeNamespace(CallValues call)
    {
        var space = new Namespace();
        foreach (var (key, value) in Dict(call).Entries)
            space.Members[PythonText.Plain(key)] = value;
        return space;
    }
}
