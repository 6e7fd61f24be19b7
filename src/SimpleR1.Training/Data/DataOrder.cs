namespace SimpleR1.Training.Data;

/// <summary>Items of one source, which follow those of the source before.</summary>
/// <param name="Count">Number of items.</param>
/// <param name="Weight">How often they are drawn, in proportion to the weights of the other parts.</param>
public sealed record DataPart(int Count, double Weight);

/// <summary>
/// An endless order of problems. Each epoch of a part is a new shuffle that follows from the seed and the epoch alone,
/// and parts take turns by their weights, so <see cref="Position"/> is all that a checkpoint needs.
/// </summary>
public sealed class DataOrder
{
    private readonly DataPart[] parts;
    private readonly PartOrder[] orders;
    private readonly List<(int Part, long Place)> turns = []; // of positions so far; not used for a single part
    private readonly long[] taken; // turns of each part in that list
    private long position;

    /// <summary>An order of <paramref name="count"/> problems.</summary>
    public DataOrder(int count, ulong seed)
        : this([new(count, 1)], seed) { }

    /// <summary>An order of the problems of several parts.</summary>
    /// <exception cref="ArgumentOutOfRangeException">A part is empty, or its weight is not positive.</exception>
    public DataOrder(IReadOnlyList<DataPart> parts, ulong seed)
    {
        ArgumentOutOfRangeException.ThrowIfZero(parts.Count);
        this.parts = [.. parts];
        taken = new long[parts.Count];
        orders = new PartOrder[parts.Count];
        int first = 0;
        for (int i = 0; i < parts.Count; i++)
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(parts[i].Count, 1, "number of problems to put in order");
            ArgumentOutOfRangeException.ThrowIfNegativeOrZero(parts[i].Weight, "weight of a source");
            orders[i] = new(first, parts[i].Count, i == 0 ? seed : SplitMix64.Mix(seed + (ulong)i));
            first += parts[i].Count;
        }
    }

    /// <summary>Number of indices taken by <see cref="Next"/>.</summary>
    public long Position
    {
        get => position;
        set
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            position = value;
        }
    }

    /// <summary>Complete passes over the problems; with several parts, as many draws as there are problems.</summary>
    public long Epoch => position / parts.Sum(p => (long)p.Count);

    /// <summary>The next index, 0 .. count-1.</summary>
    public int Next() => At(position++);

    /// <summary>The index at a position, whether taken or not.</summary>
    public int At(long place)
    {
        if (parts.Length == 1)
            return orders[0].At(place);
        while (turns.Count <= place)
            AddTurn();
        var turn = turns[(int)place];
        return orders[turn.Part].At(turn.Place);
    }

    /// <summary>The next turn is that of the part which is furthest behind its share; the first of several.</summary>
    private void AddTurn()
    {
        double total = parts.Sum(p => p.Weight);
        int behind = 0;
        double most = double.NegativeInfinity;
        for (int i = 0; i < parts.Length; i++)
        {
            double owed = parts[i].Weight / total * (turns.Count + 1) - taken[i];
            if (owed <= most)
                continue;
            most = owed;
            behind = i;
        }
        turns.Add((behind, taken[behind]++));
    }

    /// <summary>The order within a part: a new shuffle each epoch.</summary>
    private sealed class PartOrder(int first, int count, ulong seed)
    {
        private readonly int[] order = new int[count];
        private long shuffledEpoch = -1;

        public int At(long place)
        {
            long epoch = place / order.Length;
            if (epoch != shuffledEpoch)
            {
                for (int i = 0; i < order.Length; i++)
                    order[i] = first + i;
                var random = new SplitMix64(SplitMix64.Mix(seed + 0x9E3779B97F4A7C15) ^ SplitMix64.Mix((ulong)epoch));
                random.Shuffle(order.AsSpan());
                shuffledEpoch = epoch;
            }
            return order[place % order.Length];
        }
    }
}
