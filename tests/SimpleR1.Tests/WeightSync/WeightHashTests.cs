using System.Runtime.InteropServices;
using CsCheck;
using SimpleR1.WeightSync;
using Xunit;

namespace SimpleR1.Tests.WeightSync;

public sealed unsafe class WeightHashTests
{
    private static readonly Gen<byte[]> Bytes = Gen.Byte.Array[0, 700];

    [Fact]
    public void Hash_of_any_length_equals_the_reference() =>
        Bytes.Sample(bytes =>
        {
            fixed (byte* p = bytes)
                Assert.Equal(WeightHash.Reference(bytes), WeightHash.Compute((nint)p, bytes.Length));
        });

    [Fact]
    public void Hash_of_a_buffer_of_many_parallel_items_equals_the_reference()
    {
        var bytes = new byte[(5 << 20) + 13];
        new Random(1).NextBytes(bytes);
        fixed (byte* p = bytes)
            Assert.Equal(WeightHash.Reference(bytes), WeightHash.Compute((nint)p, bytes.Length));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(8)] // off the alignment that non-temporal stores need
    public void CopyAndHash_copies_everything_and_nothing_more(int misalignment)
    {
        int length = (3 << 20) + 21;
        var source = new byte[length];
        new Random(2).NextBytes(source);
        var memory = (byte*)NativeMemory.AlignedAlloc((nuint)length + 128, 64);
        try
        {
            new Span<byte>(memory, length + 128).Fill(0xEE);
            fixed (byte* p = source)
                Assert.Equal(
                    WeightHash.Reference(source),
                    WeightHash.CopyAndHash((nint)p, (nint)(memory + misalignment), length)
                );
            Assert.True(new Span<byte>(memory + misalignment, length).SequenceEqual(source));
            Assert.False(new Span<byte>(memory, misalignment).ContainsAnyExcept((byte)0xEE));
            Assert.False(new Span<byte>(memory + misalignment + length, 64).ContainsAnyExcept((byte)0xEE));
        }
        finally
        {
            NativeMemory.AlignedFree(memory);
        }
    }

    [Fact]
    public void Parts_in_any_order_add_up_to_the_whole() =>
        Gen.Select(Bytes, Gen.Int[0, 80], Gen.Int[0, 80])
            .Sample(
                (bytes, a, b) =>
                {
                    int words = bytes.Length / 8 * 8; // bytes of whole words
                    int first = Math.Min(a * 8, words);
                    int second = Math.Clamp(b * 8, first, Math.Max(first, words));
                    fixed (byte* p = bytes)
                    {
                        ulong sum =
                            WeightHash.Part((nint)(p + second), bytes.Length - second, second)
                            + WeightHash.Part((nint)p, first, 0)
                            + WeightHash.Part((nint)(p + first), second - first, first);
                        Assert.Equal(WeightHash.Reference(bytes), sum);
                    }
                }
            );

    [Fact]
    public void Hash_differs_for_every_flipped_bit_and_every_swap_of_words()
    {
        var bytes = new byte[512];
        new Random(3).NextBytes(bytes);
        var seen = new HashSet<ulong> { WeightHash.Reference(bytes) };
        for (int bit = 0; bit < bytes.Length * 8; bit++)
        {
            bytes[bit / 8] ^= (byte)(1 << bit % 8);
            Assert.True(seen.Add(WeightHash.Reference(bytes)), $"bit {bit}");
            bytes[bit / 8] ^= (byte)(1 << bit % 8);
        }
        var words = MemoryMarshal.Cast<byte, ulong>(bytes.AsSpan());
        for (int i = 0; i < words.Length; i++)
        for (int j = i + 1; j < words.Length; j++)
        {
            (words[i], words[j]) = (words[j], words[i]);
            Assert.True(seen.Add(WeightHash.Reference(bytes)), $"words {i} and {j}");
            (words[i], words[j]) = (words[j], words[i]);
        }
    }

    [Fact]
    public void Hash_of_zeros_depends_on_their_number() =>
        Assert.Equal(
            100,
            Enumerable.Range(1, 100).Select(n => WeightHash.Reference(new byte[n * 8])).Distinct().Count()
        );
}
