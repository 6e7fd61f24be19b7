using System.Text;
using SimpleR1.Models.Prompts.Jinja.Texts;
using SimpleR1.Models.Prompts.Jinja.Values;
using List = SimpleR1.Models.Prompts.Jinja.Values.Sequence;

namespace SimpleR1.Models.Prompts.Jinja.Library;

/// <summary>Filters of lists, dicts and generators.</summary>
internal static class SequenceFilters
{
    public static readonly IReadOnlyDictionary<string, Filter> All = new Dictionary<string, Filter>
    {
        ["batch"] = new(new(1, "linecount", "fill_with"), Batch),
        ["dictsort"] = new(new(0, "case_sensitive", "by", "reverse"), SortEntries),
        ["first"] = Filter.WithoutArguments(value =>
            First(Protocols.Iterate(value), "No first item, sequence was empty.")
        ),
        ["items"] = Filter.WithoutArguments(Items),
        ["join"] = new(new(0, "d", "attribute"), Join),
        ["last"] = Filter.WithoutArguments(value =>
            First(Protocols.IterateBack(value), "No last item, sequence was empty.")
        ),
        ["list"] = Filter.WithoutArguments(value => ToList(Protocols.Iterate(value))),
        ["max"] = new(new(0, "case_sensitive", "attribute"), (v, a) => Extreme(v, a, descending: true)),
        ["min"] = new(new(0, "case_sensitive", "attribute"), (v, a) => Extreme(v, a, descending: false)),
        ["reverse"] = Filter.WithoutArguments(Reverse),
        ["slice"] = new(new(1, "slices", "fill_with"), Slice),
        ["sort"] = new(new(0, "reverse", "case_sensitive", "attribute"), Sort),
        ["unique"] = new(new(0, "case_sensitive", "attribute"), Unique),
    };

    /// <summary>A list of the items, which are counted.</summary>
    public static List ToList(IEnumerable<object> items)
    {
        var list = new List<object>();
        foreach (object item in items)
        {
            Meter.Step();
            list.Add(item);
        }
        return new(list);
    }

    private static object First(IEnumerable<object> items, string problem) =>
        items.FirstOrDefault() ?? new Undefined(problem);

    private static object Items(object value) =>
        value switch
        {
            Undefined => new OneShot([]),
            Mapping mapping => new OneShot(mapping.Entries.Select(e => (object)List.Tuple(e.Key, e.Value))),
            _ => throw new ValueException("Can only get item pairs from a mapping."),
        };

    private static object Join(object value, BoundValues arguments)
    {
        string separator = PythonText.Of(arguments.Value(0, ""));
        var read = MemberPath.Reader(arguments[1], null);
        var text = new StringBuilder();
        bool first = true;
        foreach (object item in Protocols.Iterate(value))
        {
            if (!first)
                text.Append(separator);
            first = false;
            string next = PythonText.Of(read(item));
            Meter.Characters(next.Length);
            text.Append(next);
            Meter.CheckLength(text.Length);
        }
        return text.ToString();
    }

    private static object Reverse(object value) =>
        value switch
        {
            string or Markup => string.Concat(PythonText.Characters(PythonText.Plain(value)).Reverse()),
            OneShot generator => new List([.. ToList(generator.Rest()).Items.Reverse()]),
            _ => new OneShot(Protocols.IterateBack(value)),
        };

    private static object Batch(object value, BoundValues arguments)
    {
        int size = arguments.Integer(0, 1);
        if (size < 1)
            throw new ValueException($"batch: expected a size of 1 or more, found {size}");
        object? fill = arguments[1];
        var batches = Protocols
            .Iterate(value)
            .Chunk(size)
            .Select(chunk => (object)new List(fill is null ? chunk : [.. chunk, .. Fill(fill, size - chunk.Length)]));
        return new OneShot(batches);
    }

    private static IEnumerable<object> Fill(object fill, int count)
    {
        Meter.Step(count);
        return Enumerable.Repeat(fill, count);
    }

    private static object Slice(object value, BoundValues arguments)
    {
        var items = ToList(Protocols.Iterate(value)).Items;
        int count = arguments.Integer(0, 1);
        if (count < 1)
            throw new ValueException($"slice: expected 1 slice or more, found {count}");
        Meter.Step(count);
        var slices = new List<object>();
        int taken = 0;
        for (int i = 0; i < count; i++)
        {
            bool isLonger = i < items.Count % count;
            int length = items.Count / count + (isLonger ? 1 : 0);
            IEnumerable<object> slice = items.Skip(taken).Take(length);
            slices.Add(new List([.. arguments[1] is { } fill && !isLonger ? slice.Append(fill) : slice]));
            taken += length;
        }
        return new OneShot(slices);
    }

    private static object Sort(object value, BoundValues arguments)
    {
        object?[] paths = arguments[2] is string several ? several.Split(',') : [arguments[2]];
        var keys = paths.Select(path => Key(path, arguments.Flag(1))).ToArray();
        Func<object, object> key = keys.Length == 1 ? keys[0] : item => new List([.. keys.Select(k => k(item))]);
        return new List(Protocols.Sort(ToList(Protocols.Iterate(value)).Items, key, arguments.Flag(0)));
    }

    private static object SortEntries(object value, BoundValues arguments)
    {
        if (value is not Mapping mapping)
            throw new ValueException($"dictsort: expected a dict, found {TypeNames.Of(value)}");
        int place = arguments.Text(1, "key") switch
        {
            "key" => 0,
            "value" => 1,
            _ => throw new ValueException("You can only sort by either \"key\" or \"value\""),
        };
        var key = Key(new System.Numerics.BigInteger(place), arguments.Flag(0));
        var entries = mapping.Entries.Select(e => (object)List.Tuple(e.Key, e.Value));
        return new List(Protocols.Sort(entries, key, arguments.Flag(2)));
    }

    /// <summary>What items are compared by; texts without regard to case unless asked for.</summary>
    private static Func<object, object> Key(object? path, bool caseSensitive)
    {
        var read = MemberPath.Reader(path, null);
        return item =>
        {
            object key = read(item);
            return !caseSensitive && key is string or Markup ? TextCase.Lower(PythonText.Plain(key)) : key;
        };
    }

    private static object Extreme(object value, BoundValues arguments, bool descending)
    {
        var key = Key(arguments[1], arguments.Flag(0));
        object[] sorted = Protocols.Sort(ToList(Protocols.Iterate(value)).Items, key, descending);
        return First(sorted, "No aggregated item, sequence was empty.");
    }

    private static object Unique(object value, BoundValues arguments)
    {
        var key = Key(arguments[1], arguments.Flag(0));
        return new OneShot(Protocols.Iterate(value).DistinctBy(key, PythonEquality.Instance));
    }
}
