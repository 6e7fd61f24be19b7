namespace SimpleR1.Training.Data;

/// <summary>
/// An endless order of <paramref name="count"/> problems. Each epoch is a new shuffle that follows from the seed and
/// the epoch alone, so <see cref="Position"/> is all that a checkpoint needs.
/// </summary>
public sealed class DataOrder(int count, ulong seed)
{
    private readonly int[] order = new int[
        count > 0
            ? count
            : throw new ArgumentOutOfRangeException(nameof(count), "there must be at least one problem to put in order")
    ];
    private long shuffledEpoch = -1;
    private long position;

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

    /// <summary>Complete passes over the problems.</summary>
    public long Epoch => position / order.Length;

    /// <summary>The next index, 0 .. count-1.</summary>
    public int Next() => At(position++);

    /// <summary>The index at a position, whether taken or not.</summary>
    public int At(long place)
    {
        long epoch = place / order.Length;
        if (epoch != shuffledEpoch)
        {
            for (int i = 0; i < order.Length; i++)
                order[i] = i;
            var random = new SplitMix64(SplitMix64.Mix(seed + 0x9E3779B97F4A7C15) ^ SplitMix64.Mix((ulong)epoch));
            random.Shuffle(order.AsSpan());
            shuffledEpoch = epoch;
        }
        return order[place % order.Length];
    }
}
