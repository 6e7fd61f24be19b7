using CsCheck;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.Tcp;
using Xunit;

namespace SimpleR1.Tests.WeightSync;

public sealed unsafe class WeightDeltaTests
{
    private static readonly Gen<double> Fractions = Gen.Int[0, 4].Select(i => new[] { 0, 0.0001, 0.01, 0.5, 1 }[i]);

    /// <summary>The format in plain code; null where the delta would be as long as the chunk.</summary>
    private static byte[]? Reference(ReadOnlySpan<byte> before, ReadOnlySpan<byte> now, int size)
    {
        var encoded = new List<byte>();
        for (int i = 0, gap = 0; i < now.Length; i += size, gap++)
        {
            if (before.Slice(i, size).SequenceEqual(now.Slice(i, size)))
                continue;
            if (encoded.Count + 5 + size > now.Length)
                return null;
            for (; gap >= 0x80; gap >>= 7)
                encoded.Add((byte)(gap | 0x80));
            encoded.AddRange([(byte)gap, .. now.Slice(i, size)]);
            gap = -1;
        }
        return [.. encoded];
    }

    /// <summary>
    /// Checks everything that an encoding must be, for a chunk of which a fraction of the elements has other bits.
    /// </summary>
    private static void Check(int elements, int size, double fraction, int seed)
    {
        var random = new Random(seed);
        byte[] before = new byte[elements * size];
        byte[] now = new byte[elements * size];
        random.NextBytes(before);
        before.CopyTo(now, 0);
        for (int i = 0; i < elements; i++)
            if (random.NextDouble() < fraction)
                now[i * size + random.Next(size)] ^= (byte)(1 << random.Next(8)); // any bit counts
        byte[] kept = [.. before, 0xEE]; // the byte after the chunk must stay
        byte[] source = [.. now, 0xDD];
        byte[]? delta;
        fixed (
            byte* last = kept,
                memory = source
        )
            delta = WeightDelta.Encode(last, memory, now.Length, size);
        Assert.Equal(Reference(before, now, size), delta);
        Assert.Equal([.. now, 0xEE], kept);
        Assert.Equal([.. now, 0xDD], source);
        if (delta is null)
            return;
        WeightDelta.Apply(delta, before, size);
        Assert.Equal(now, before);
    }

    [Fact]
    public void Encoding_of_any_length_and_sparsity_equals_the_reference_and_gives_the_new_bits_when_applied() =>
        Gen.Select(Gen.Int[0, 3000], Gen.Int[1, 2].Select(i => 2 * i), Fractions, Gen.Int).Sample(Check);

    [Theory]
    [InlineData(2, 0.0001), InlineData(2, 0.01), InlineData(2, 0.5), InlineData(2, 1)]
    [InlineData(4, 0.0001), InlineData(4, 0.01), InlineData(4, 0.5), InlineData(4, 1)]
    public void Encoding_of_a_whole_chunk_equals_the_reference(int size, double fraction) =>
        Check(BroadcastPlan.DefaultChunkBytes / size - 3, size, fraction, seed: 5);

    [Fact]
    public void Delta_that_points_past_its_chunk_or_is_cut_off_is_refused()
    {
        byte[] chunk = new byte[8];
        Assert.Throws<IOException>(() => WeightDelta.Apply([2, 1, 1, 1, 1], chunk, 4)); // there are two elements
        Assert.Throws<IOException>(() => WeightDelta.Apply([0, 1, 1, 1], chunk, 4));
        Assert.Throws<IOException>(() => WeightDelta.Apply([0x80], chunk, 4));
        Assert.Throws<IOException>(() => WeightDelta.Apply([0x80, 0x80, 0x80, 0x80, 0x80, 1], chunk, 4));
    }
}
