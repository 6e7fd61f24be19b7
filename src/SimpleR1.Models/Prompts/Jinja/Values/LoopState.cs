using System.Numerics;

namespace SimpleR1.Models.Prompts.Jinja.Values;

/// <summary>The variable <c>loop</c> inside a for.</summary>
internal sealed class LoopState(IReadOnlyList<object> items, int depth)
{
    private List<object>? lastChanged;

    public int Length => items.Count;

    /// <summary>From 0.</summary>
    public int Index { get; set; }

    /// <summary>A member by name; null if there is none.</summary>
    public object? Member(string name) =>
        name switch
        {
            "index" => new BigInteger(Index + 1),
            "index0" => new BigInteger(Index),
            "revindex" => new BigInteger(Length - Index),
            "revindex0" => new BigInteger(Length - Index - 1),
            "first" => Index == 0,
            "last" => Index == Length - 1,
            "length" => new BigInteger(Length),
            "depth" => new BigInteger(depth),
            "depth0" => new BigInteger(depth - 1),
            "previtem" => Index > 0 ? items[Index - 1] : new Undefined("there is no previous item"),
            "nextitem" => Index < Length - 1 ? items[Index + 1] : new Undefined("there is no next item"),
            "cycle" => new Callable("cycle", Cycle),
            "changed" => new Callable("changed", Changed),
            _ => null,
        };

    private object Cycle(CallValues call) =>
        call.Positional.Count > 0
            ? call.Positional[Index % call.Positional.Count]
            : throw new ValueException("no items for cycling given");

    private object Changed(CallValues call)
    {
        bool same = lastChanged is not null && lastChanged.SequenceEqual(call.Positional, PythonEquality.Instance);
        lastChanged = [.. call.Positional];
        return !same;
    }
}
