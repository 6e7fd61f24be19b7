using System.Runtime.Intrinsics;
using SimpleR1.Inference;
using SimpleR1.Tensors.Cpu;
using Xunit;

namespace SimpleR1.Tests.Inference;

public sealed unsafe class SamplingTests
{
    [Fact]
    public void Philox_gives_the_authors_known_answers()
    {
        Assert.Equal((0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u), Philox.Draw(0, 0, 0, 0, 0));
        Assert.Equal(
            (0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu),
            Philox.Draw(ulong.MaxValue, ~0u, ~0u, ~0u, ~0u)
        );
        Assert.Equal(
            (0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u),
            Philox.Draw(0x299f31d0a4093822, 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344)
        );
    }

    [Fact]
    public void Philox_on_16_lanes_equals_16_single_draws()
    {
        var random = new Random(1);
        for (int i = 0; i < 200; i++)
        {
            ulong key = (ulong)random.NextInt64();
            uint first = (uint)random.Next();
            uint second = (uint)random.Next();
            var (a, b, c, d) = Philox.Draw16(key, first, second);
            for (int lane = 0; lane < 16; lane++)
                Assert.Equal(Philox.Draw(key, first + (uint)lane, second, 0, 0), (a[lane], b[lane], c[lane], d[lane]));
        }
    }

    [Fact]
    public void Vector_exp_is_within_2e_7_and_keeps_special_values()
    {
        double worst = 0;
        for (float x = -86.9f; x < 88; x += 0.0013f)
            worst = Math.Max(worst, Math.Abs(VectorMath.Exp(Vector512.Create(x))[0] / Math.Exp(x) - 1));
        Assert.True(worst < 2e-7, $"largest relative error {worst:E2}");
        Assert.Equal(1, VectorMath.Exp(Vector512<float>.Zero)[3]);
        Assert.Equal(0, VectorMath.Exp(Vector512.Create(float.NegativeInfinity))[5]);
        Assert.Equal(0, VectorMath.Exp(Vector512.Create(-1e30f))[5]);
        Assert.True(float.IsNaN(VectorMath.Exp(Vector512.Create(float.NaN))[7]));
    }

    [Theory]
    [InlineData(5), InlineData(64), InlineData(1000), InlineData(49_157)]
    public void Draw_skips_only_tokens_that_cannot_win(int count)
    {
        var random = new Random(count);
        float[] logits = new float[count];
        for (int trial = 0; trial < Math.Clamp(2_000_000 / count, 30, 3000); trial++)
        {
            double spread = random.NextDouble() * 12; // from flat to peaked
            for (int i = 0; i < count; i++)
                logits[i] = (float)((random.NextDouble() + random.NextDouble() - 1) * spread);
            if (count > 5)
                logits[random.Next(count)] = float.NegativeInfinity;
            float scale = (float)(0.2 + 3 * random.NextDouble());
            float threshold = trial % 2 == 0 ? float.NegativeInfinity : (float)(spread * 0.3);
            fixed (float* x = logits)
            {
                var (max, top) = Sampling.Max(x, count);
                Assert.Equal((logits.Max(), Array.IndexOf(logits, logits.Max())), (max, top));
                threshold = Math.Min(threshold, max);
                var distribution = new Sampling.Distribution(max, scale, threshold);
                var noise = new Sampling.Noise((ulong)trial, (uint)trial);
                var expected = Sampling.Reference(logits, distribution, noise);
                var found = Sampling.Draw(x, count, top, distribution, noise);
                Assert.Equal(expected.Token, found.Token);
                Assert.Equal(1, found.Sum / expected.Sum, 1e-6);
                Assert.Equal(found.Sum, Sampling.SumExp(x, count, max, scale, threshold));
            }
        }
    }

    [Theory]
    [InlineData(float.NaN), InlineData(float.PositiveInfinity)]
    public void Max_of_logits_that_are_not_finite_is_NaN_wherever_they_are(float bad)
    {
        for (int index = 0; index < 40; index++)
        {
            var logits = new float[40];
            logits[index] = bad;
            fixed (float* x = logits)
                Assert.True(float.IsNaN(Sampling.Max(x, 40).Max));
        }
    }

    [Theory]
    [InlineData(17), InlineData(700), InlineData(20_000)]
    public void Filters_keep_what_sorting_keeps(int count)
    {
        var random = new Random(count);
        for (int trial = 0; trial < Math.Clamp(400_000 / count, 60, 600); trial++)
        {
            var logits = new float[count];
            double spread = 0.1 + random.NextDouble() * 10;
            for (int i = 0; i < count; i++)
                logits[i] = (float)(Math.Log(random.NextDouble() + 1e-9) * spread);
            if (trial % 3 == 0)
                for (int i = 0; i < count; i++)
                    logits[i] = MathF.Round(logits[i]); // many ties

            int topK = trial % 4 == 1 ? 0 : random.Next(1, count + 3);
            double topP = trial % 4 == 2 ? 1 : 0.02 + 0.97 * random.NextDouble();
            double minP = trial % 4 == 3 ? 0.3 * random.NextDouble() : 0;
            float scale = (float)(0.3 + random.NextDouble());
            var filters = new SamplingParameters
            {
                MaxTokens = 1,
                TopK = topK,
                TopP = topP,
                MinP = minP,
            };
            float expected = ThresholdBySorting(logits, scale, filters, out bool close);
            fixed (float* x = logits)
            {
                float found = SamplingFilters.Threshold(x, count, new(logits.Max(), scale, topK, topP, minP));
                if (!close)
                    Assert.Equal(logits.Count(v => v >= expected), logits.Count(v => v >= found));
            }
        }
    }

    /// <param name="close">A mass is so near to p that rounding decides.</param>
    private static float ThresholdBySorting(float[] logits, float scale, SamplingParameters s, out bool close)
    {
        float max = logits.Max();
        float[] sorted = [.. logits.OrderDescending()];
        float threshold = s.TopK > 0 && s.TopK < logits.Length ? sorted[s.TopK - 1] : float.NegativeInfinity;
        double total = logits.Where(x => x >= threshold).Sum(x => Math.Exp((x - max) * (double)scale));
        double mass = 0;
        close = false;
        foreach (float x in s.TopP < 1 ? sorted : [])
        {
            mass += Math.Exp((x - max) * (double)scale);
            close |= Math.Abs(mass - s.TopP * total) < 1e-5 * total;
            if (mass < s.TopP * total)
                continue;
            threshold = Math.Max(threshold, x);
            break;
        }

        return s.MinP > 0 ? Math.Max(threshold, (float)(max + Math.Log(s.MinP) / scale)) : threshold;
    }

    [Fact]
    public void Streams_of_a_seeds_samples_and_of_neighbouring_seeds_differ()
    {
        var seeds =
            from seed in Enumerable.Range(0, 100)
            from sample in Enumerable.Range(0, 100)
            select Sampling.StreamSeed((ulong)seed, sample);
        Assert.Equal(10_000, seeds.Distinct().Count());
    }
}
