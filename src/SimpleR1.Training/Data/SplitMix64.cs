namespace SimpleR1.Training.Data;

/// <summary>
/// A small random generator whose stream is the same on every machine and .NET version (Steele, Lea, Flood 2014).
/// </summary>
internal struct SplitMix64(ulong seed)
{
    private ulong state = seed;

    public static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    public ulong Next() => Mix(state += 0x9E3779B97F4A7C15);

    /// <summary>Uniform in 0 .. bound-1, without the bias of a remainder (Lemire's method).</summary>
    public int Next(int bound)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(bound, 1);
        while (true)
        {
            ulong high = Math.BigMul(Next(), (ulong)bound, out ulong low);
            if (low >= (ulong)-(long)bound % (ulong)bound)
                return (int)high;
        }
    }

    /// <summary>Uniform in from .. to, both included.</summary>
    public int Next(int from, int to) => from + Next(to - from + 1);

    public double NextDouble() => (Next() >> 11) * (1.0 / (1L << 53));

    /// <summary>Fisher–Yates.</summary>
    public void Shuffle<T>(Span<T> items)
    {
        for (int i = items.Length - 1; i > 0; i--)
        {
            int j = Next(i + 1);
            (items[i], items[j]) = (items[j], items[i]);
        }
    }
}
