using System.Runtime.Intrinsics;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cpu.Layers;
using SimpleR1.Tests.Inference;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Tensors;

/// <summary>Weights of 16 bits on a CPU: what is computed with them has the bits of an f32 copy.</summary>
public sealed unsafe class StoredNumbersTests
{
    private static readonly ScalarType[] Types = [ScalarType.BFloat16, ScalarType.Float16];

    /// <summary>All finite numbers that 16 bits can hold, ordered so that each vector has large and small ones.</summary>
    private static ushort[] Finite(int exponent) =>
        [.. Enumerable.Range(0, 1 << 16).Select(i => (ushort)(i * 40503)).Where(bits => (bits & exponent) != exponent)];

    [Fact]
    public void Every_f16_is_widened_exactly()
    {
        ushort[] all = Finite(0x7C00);
        fixed (ushort* at = all)
            for (int i = 0; i + 16 <= all.Length; i += 16)
            {
                var loaded = F16Numbers.Load((byte*)(at + i));
                for (int lane = 0; lane < 16; lane++)
                    AssertSameBits((float)BitConverter.UInt16BitsToHalf(all[i + lane]), loaded.GetElement(lane));
            }
    }

    [Fact]
    public void Every_bf16_is_widened_exactly()
    {
        ushort[] all = Finite(0x7F80);
        fixed (ushort* at = all)
            for (int i = 0; i + 16 <= all.Length; i += 16)
            {
                var loaded = BF16Numbers.Load((byte*)(at + i));
                for (int lane = 0; lane < 16; lane++)
                    AssertSameBits(BitConverter.UInt32BitsToSingle((uint)all[i + lane] << 16), loaded.GetElement(lane));
            }
    }

    private static void AssertSameBits(float expected, float found) =>
        Assert.Equal(BitConverter.SingleToUInt32Bits(expected), BitConverter.SingleToUInt32Bits(found));

    [Theory]
    [InlineData(1, 7, 5)]
    [InlineData(3, 9, 33)]
    [InlineData(6, 50, 100)]
    [InlineData(15, 95, 237)]
    [InlineData(16, 95, 237)]
    [InlineData(131, 1030, 576)]
    public void Product_has_the_bits_of_one_with_an_f32_copy(int rows, int outputs, int inputs)
    {
        foreach (var type in Types)
        {
            using var scope = NewDisposeScope();
            Tensor x = randn(rows, inputs),
                weight = (randn(outputs, inputs) * 0.02).to(type),
                bias = randn(outputs).to(type);
            var expected = Ops.Linear(null, x, weight.to(float32), bias.to(float32));
            Assert.True(expected.Equals(Ops.Linear(null, x, weight, bias)), $"{type}");
        }
    }

    [Fact]
    public void Gradient_of_such_weights_is_refused()
    {
        using var scope = NewDisposeScope();
        using var tape = new Tape();
        Tensor x = randn(3, 8),
            weight = randn(5, 8).to(bfloat16);
        var y = Ops.Linear(tape, x, weight);
        Assert.Contains(
            "a CPU trains f32 weights",
            Assert.Throws<NotSupportedException>(() => tape.Backward(y, ones_like(y))).Message
        );
    }

    [Fact]
    public void Engine_samples_what_one_with_an_f32_copy_samples()
    {
        foreach (var type in Types)
        foreach (var family in new[] { ModelFamily.Llama, ModelFamily.Qwen2, ModelFamily.Qwen3 })
        {
            using var first = TinyModels.Random(TinyModels.Config(family, tied: family == ModelFamily.Llama));
            var stored = new FlatWeights(first.Layout, type, CPU);
            stored.Flat.copy_(first.Flat);
            var copy = new FlatWeights(first.Layout, ScalarType.Float32, CPU);
            copy.Flat.copy_(stored.Flat);
            TestEngine.AssertSameTokens(Sample(copy), Sample(stored));
        }
    }

    /// <summary>Three prompts, one of which is longer than what is widened at once, with two samples each.</summary>
    private static List<Completion> Sample(FlatWeights weights)
    {
        using var test = new TestEngine(model: weights);
        var sampling = new SamplingParameters
        {
            Samples = 2,
            MaxTokens = 12,
            IgnoreEos = true,
            Seed = 3,
        };
        return test.Run([
            .. new[] { 3, 7, 40 }.Select(
                (length, i) => new GenerationRequest($"{i}", TestEngine.Prompt(length, i), sampling)
            ),
        ]);
    }
}
