using SimpleR1.Models.Prompts.Jinja.Texts;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Library;

/// <summary>Filters that choose values, or apply other filters and tests.</summary>
internal static class SelectionFilters
{
    public static readonly IReadOnlyDictionary<string, Filter> All = new Dictionary<string, Filter>
    {
        ["attr"] = new(
            new(1, "name"),
            (v, a) => Members.Attribute(v, a.Text(0, "")) ?? Members.Missing(v, a.Text(0, ""))
        ),
        ["d"] = new(new(0, "default_value", "boolean"), Default),
        ["default"] = new(new(0, "default_value", "boolean"), Default),
        ["map"] = new(Parameters.Any, Map),
        ["reject"] = new(Parameters.Any, (v, a) => Select(v, a.Call, keep: false)),
        ["rejectattr"] = new(Parameters.Any, (v, a) => SelectByMember(v, a.Call, keep: false)),
        ["select"] = new(Parameters.Any, (v, a) => Select(v, a.Call, keep: true)),
        ["selectattr"] = new(Parameters.Any, (v, a) => SelectByMember(v, a.Call, keep: true)),
    };

    private static object Default(object value, BoundValues arguments) =>
        value is Undefined || arguments.Flag(1) && !Protocols.IsTrue(value) ? arguments.Value(0, "") : value;

    private static object Map(object value, BoundValues arguments)
    {
        var call = arguments.Call;
        if (call.Positional.Count > 0)
        {
            string name = PythonText.Plain(call.Positional[0]);
            return Lazy(value, items => items.Select(item => Filters.Apply(name, item, call.Skip(1))));
        }
        if (!call.Named.TryGetValue("attribute", out object? path))
            throw new ValueException("map requires a filter argument");
        if (call.Named.Keys.FirstOrDefault(k => k is not ("attribute" or "default")) is { } unknown)
            throw new ValueException($"Unexpected keyword argument '{unknown}'");
        var read = MemberPath.Reader(path, call.Named.GetValueOrDefault("default"));
        return Lazy(value, items => items.Select(read));
    }

    private static object Select(object value, CallValues call, bool keep)
    {
        var test = Test(call);
        return Lazy(value, items => items.Where(item => test(item) == keep));
    }

    private static object SelectByMember(object value, CallValues call, bool keep)
    {
        if (call.Positional.Count == 0)
            throw new ValueException("Missing parameter for attribute name");
        var read = MemberPath.Reader(call.Positional[0], null);
        var test = Test(call.Skip(1));
        return Lazy(value, items => items.Where(item => test(read(item)) == keep));
    }

    /// <summary>Jinja's test by its name with the other arguments; without a name, whether a value is true.</summary>
    private static Func<object, bool> Test(CallValues call)
    {
        if (call.Positional.Count == 0)
            return Protocols.IsTrue;
        string name = PythonText.Plain(call.Positional[0]);
        return item => Tests.Apply(name, item, call.Skip(1));
    }

    private static object Lazy(object value, Func<IEnumerable<object>, IEnumerable<object>> select) =>
        new OneShot(Protocols.IsTrue(value) ? select(Counted(Protocols.Iterate(value))) : []);

    private static IEnumerable<object> Counted(IEnumerable<object> items)
    {
        foreach (object item in items)
        {
            Meter.Step();
            yield return item;
        }
    }
}
