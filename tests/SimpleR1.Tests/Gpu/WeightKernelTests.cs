using System.Runtime.InteropServices;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.WeightSync;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

/// <summary>Hashes and conversions of weights on a GPU against the host.</summary>
[Collection("GPU"), Trait("Category", "Gpu")]
public sealed class WeightKernelTests
{
    [Fact]
    public void Weight_hash_is_the_hosts()
    {
        var gpu = Gpu.Require();
        byte[] bytes = new byte[8 * 10_007];
        new Random(3).NextBytes(bytes);
        using var memory = gpu.Allocate(bytes.Length, "a test");
        using var sum = gpu.AllocateZeros(8, "a test");
        gpu.Write<byte>(memory.Pointer, bytes);
        gpu.Kernels.Get("WeightHash", "weight_hash", "ELEMENT=float")
            .Launch((3, 1), 128, 0, memory, (long)bytes.Length / 8, sum);
        Assert.Equal(WeightHash.Reference(bytes), gpu.Read<ulong>(sum.Pointer, 1)[0]);
    }

    /// <summary>Ties, subnormals, what is too large, infinities, not-a-numbers; and random ones.</summary>
    private static float[] Numbers()
    {
        var random = new Random(4);
        return
        [
            0,
            -0f,
            1,
            float.NaN,
            float.PositiveInfinity,
            float.NegativeInfinity,
            float.MaxValue,
            float.Epsilon,
            65504,
            65519.99f,
            65520,
            -65536,
            6e-8f,
            3e-8f,
            2.9e-8f,
            1e-39f,
            1.00390625f,
            1.01171875f,
            1.00048828125f,
            .. Enumerable.Range(0, 2000).Select(_ => BitConverter.UInt32BitsToSingle((uint)random.NextInt64(1L << 32))),
            .. Gpu.Normal(5000, 5),
        ];
    }

    /// <summary>
    /// Bit for bit, between all types of weights; a NaN stays one. From an address that is a multiple of 2 only.
    /// </summary>
    [Fact]
    public void Numbers_convert_as_on_the_CPU()
    {
        var gpu = Gpu.Require();
        float[] values = Numbers();
        foreach (var from in Enum.GetValues<WeightType>())
        foreach (var to in Enum.GetValues<WeightType>())
        {
            byte[] source = Converted(values, from),
                expected = Converted(source, from, to);
            using var memory = gpu.Allocate(source.Length + 2, "a test");
            using var result = gpu.Allocate(expected.Length, "a test");
            gpu.Write<byte>(memory.Pointer + 2, source);
            gpu.Fill(result.Pointer, 0xff, result.Bytes);
            NumberConversion.Convert(gpu, memory.Pointer + 2, from, result.Pointer, to, values.Length);
            float[] wide = Widened(expected, to),
                foundWide = Widened(gpu.Read<byte>(result.Pointer, expected.Length), to);
            for (int i = 0; i < values.Length; i++)
                if (float.IsNaN(wide[i]))
                    Assert.True(float.IsNaN(foundWide[i]), $"{from} to {to}, element {i}: {foundWide[i]}");
                else
                    Assert.True(
                        BitConverter.SingleToUInt32Bits(wide[i]) == BitConverter.SingleToUInt32Bits(foundWide[i]),
                        $"{from} to {to}, element {i} ({values[i]:R}): expected {wide[i]:R}, found {foundWide[i]:R}"
                    );
        }
    }

    private static byte[] Converted(float[] values, WeightType to) =>
        Converted(MemoryMarshal.AsBytes<float>(values), WeightType.F32, to);

    private static float[] Widened(byte[] bytes, WeightType type) =>
        [.. MemoryMarshal.Cast<byte, float>(Converted(bytes, type, WeightType.F32))];

    /// <summary>On the CPU.</summary>
    private static unsafe byte[] Converted(ReadOnlySpan<byte> numbers, WeightType from, WeightType to)
    {
        int count = numbers.Length / NumberConversion.Size(from);
        byte[] converted = new byte[count * NumberConversion.Size(to)];
        fixed (byte* a = numbers)
        fixed (byte* b = converted)
            NumberConversion.Convert(a, from, b, to, count);
        return converted;
    }

    [Theory]
    [
        InlineData(ScalarType.Float32, ScalarType.BFloat16),
        InlineData(ScalarType.Float32, ScalarType.Float16),
        InlineData(ScalarType.BFloat16, ScalarType.Float32)
    ]
    public void Weight_hash_of_another_type_is_that_of_weights_held_in_it(ScalarType type, ScalarType held)
    {
        var gpu = Gpu.Require();
        using var host = TinyModels.Random(TinyModels.Config());
        using var weights = host.CopyTo(gpu, type);

        // What the weights are after rounding to their type.
        using var exact = new FlatWeights(host.Layout, ScalarType.Float32, CPU);
        exact.Flat.copy_(host.Flat.to_type(type).to_type(ScalarType.Float32));
        Assert.Equal(WeightHash.Of(exact, held), WeightHash.Of(weights, held));
        Assert.NotEqual(WeightHash.Of(weights), WeightHash.Of(weights, held));
    }
}
