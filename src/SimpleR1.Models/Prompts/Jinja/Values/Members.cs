using System.Numerics;
using SimpleR1.Models.Prompts.Jinja.Library;
using SimpleR1.Models.Prompts.Jinja.Texts;

namespace SimpleR1.Models.Prompts.Jinja.Values;

/// <summary>What value.name, value[index] and value[start:stop:step] mean.</summary>
internal static class Members
{
    /// <summary>value.name: an attribute or a method, else the item of this name.</summary>
    public static object Member(object value, string name) =>
        Attribute(value, name) ?? ItemOrNull(value, name) ?? Missing(value, name);

    /// <summary>value[index]: an item, else, for a text, the attribute of this name.</summary>
    public static object Item(object value, object index) =>
        ItemOrNull(value, index)
        ?? (index is string or Markup ? Attribute(value, PythonText.Plain(index)) : null)
        ?? Missing(value, index);

    /// <summary>An attribute or a method; null if there is none.</summary>
    /// <exception cref="ValueException">The value is undefined.</exception>
    public static object? Attribute(object value, string name) =>
        value switch
        {
            Undefined undefined => throw new ValueException(undefined.Problem),
            Namespace space => space.Members.GetValueOrDefault(name),
            LoopState loop => loop.Member(name),
            _ => Methods.Find(value, name),
        };

    public static Undefined Missing(object value, object name) =>
        name is string or Markup
            ? new(
                $"'{(value is None ? "None" : TypeNames.Of(value) + " object")}' has no attribute '{PythonText.Of(name)}'"
            )
            : new($"{TypeNames.Of(value)} object has no element {PythonText.Repr(name)}");

    private static object? ItemOrNull(object value, object index)
    {
        if (value is Undefined undefined)
            throw new ValueException(undefined.Problem);
        if (value is Mapping mapping)
            return index is Sequence { IsTuple: false } or Mapping ? null : mapping.Entries.GetValueOrDefault(index);
        if (!Numbers.TryRead(index, out object number) || number is not BigInteger place)
            return null;
        return value switch
        {
            string or Markup => PythonText.CharacterAt(PythonText.Plain(value), place),
            Sequence sequence => Pick(sequence.Items, place),
            NumberRange range => Pick(range, place),
            _ => null,
        };
    }

    private static object? Pick(NumberRange range, BigInteger place)
    {
        if (place < 0)
            place += range.Count;
        return place >= 0 && place < range.Count ? range.Start + place * range.Step : null;
    }

    private static object? Pick(IReadOnlyList<object> items, BigInteger place)
    {
        Meter.Step();
        if (place < 0)
            place += items.Count;
        return place >= 0 && place < items.Count ? items[(int)place] : null;
    }

    /// <summary>value[start:stop:step]; null for a bound that is not given.</summary>
    /// <exception cref="ValueException">The value can't be sliced, or a bound is no int.</exception>
    public static object Slice(object value, object? start, object? stop, object? step)
    {
        switch (value)
        {
            case string or Markup:
                return SliceText(PythonText.Plain(value), start, stop, step);
            case Sequence sequence:
                return new Sequence(Slice(sequence.Items, start, stop, step), sequence.IsTuple);
            case NumberRange range:
                return new Sequence(Slice(range.ToList(), start, stop, step));
            case Undefined undefined:
                throw new ValueException(undefined.Problem);
            default:
                return new Undefined($"{TypeNames.Of(value)} object has no slices");
        }
    }

    private static string SliceText(string text, object? start, object? stop, object? step)
    {
        Meter.Step(1 + text.Length / 64);
        if (Bound(step) is { } stride && stride != 1)
            return string.Concat(Slice([.. PythonText.Characters(text)], start, stop, step).Cast<string>());
        int length = PythonText.Length(text);
        int from = Clamp(Bound(start), length, 0, length) ?? 0;
        return PythonText.Part(text, from, Clamp(Bound(stop), length, 0, length) ?? length);
    }

    private static List<object> Slice(IReadOnlyList<object> items, object? start, object? stop, object? step)
    {
        Meter.Step(1 + items.Count / 16);
        int stride = Bound(step) ?? 1;
        if (stride == 0)
            throw new ValueException("slice step cannot be zero");

        // Python clamps the bounds to the items; for a negative step to one place before them.
        int low = stride > 0 ? 0 : -1;
        int high = stride > 0 ? items.Count : items.Count - 1;
        int from = Clamp(Bound(start), items.Count, low, high) ?? (stride > 0 ? low : high);
        int to = Clamp(Bound(stop), items.Count, low, high) ?? (stride > 0 ? high : low);

        var slice = new List<object>();
        for (long i = from; stride > 0 ? i < to : i > to; i += stride)
            slice.Add(items[(int)i]);
        return slice;
    }

    private static int? Bound(object? value) => value is null or None ? null : Numbers.Index(value);

    private static int? Clamp(int? bound, int count, int low, int high)
    {
        if (bound is not { } place)
            return null;
        long fromStart = place < 0 ? (long)place + count : place;
        return (int)Math.Clamp(fromStart, low, Math.Max(low, high));
    }
}
