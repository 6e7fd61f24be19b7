using System.Numerics;
using System.Runtime.CompilerServices;
using SimpleR1.Models.Prompts.Jinja.Texts;

namespace SimpleR1.Models.Prompts.Jinja.Values;

/// <summary>Python's == and hash: True, 1 and 1.0 are the same key.</summary>
internal sealed class PythonEquality : IEqualityComparer<object>
{
    public static readonly PythonEquality Instance = new();

    public new bool Equals(object? a, object? b)
    {
        if (ReferenceEquals(a, b))
            return a is not double.NaN;
        Meter.Step();
        if (!RuntimeHelpers.TryEnsureSufficientExecutionStack())
            throw new ValueException("values are nested too deeply to compare");
        if (Numbers.TryRead(a, out var x) && Numbers.TryRead(b, out var y))
            return Numbers.Compare(x, y) == 0;
        return (a, b) switch
        {
            (string or Markup, string or Markup) => PythonText.Plain(a) == PythonText.Plain(b),
            (Sequence s, Sequence t) => s.IsTuple == t.IsTuple && ListsEqual(s.Items, t.Items),
            (Mapping s, Mapping t) => MappingsEqual(s, t),
            (NumberRange s, NumberRange t) => ListsEqual(s.ToList(), t.ToList()),
            (Undefined, Undefined) => true,
            _ => false,
        };
    }

    /// <exception cref="ValueException">The value can't be a key.</exception>
    public int GetHashCode(object value)
    {
        if (Numbers.TryRead(value, out var number))
            return number is BigInteger integer ? integer.GetHashCode() : HashOf((double)number);
        return value switch
        {
            string or Markup => PythonText.Plain(value).GetHashCode(StringComparison.Ordinal),
            Sequence { IsTuple: true } tuple => tuple.Items.Aggregate(17, (h, item) => h * 31 + GetHashCode(item)),
            Sequence or Mapping => throw new ValueException($"unhashable type: '{TypeNames.Of(value)}'"),
            _ => RuntimeHelpers.GetHashCode(value),
        };
    }

    private static int HashOf(double number) =>
        number == Math.Floor(number) && double.IsFinite(number)
            ? new BigInteger(number).GetHashCode()
            : number.GetHashCode();

    private bool ListsEqual(IReadOnlyList<object> a, IReadOnlyList<object> b)
    {
        if (a.Count != b.Count)
            return false;
        for (int i = 0; i < a.Count; i++)
            if (!Equals(a[i], b[i]))
                return false;
        return true;
    }

    private bool MappingsEqual(Mapping a, Mapping b) =>
        a.Entries.Count == b.Entries.Count
        && a.Entries.All(e => b.Entries.TryGetValue(e.Key, out object? other) && Equals(e.Value, other));
}
