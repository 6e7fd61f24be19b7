using SimpleR1.Inference.Cuda;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

/// <summary>The draw on a GPU against exact probabilities and the CPU reference.</summary>
[Collection("GPU"), Trait("Category", "Gpu")]
public sealed class SamplingKernelTests
{
    public static readonly TheoryData<double, int, double, double> Distributions = new()
    {
        { 0.7, 0, 1, 0 },
        { 1, 9, 1, 0 },
        { 1.3, 0, 0.8, 0 },
        { 1, 0, 1, 0.1 },
        { 0.9, 30, 0.9, 0.02 },
    };

    /// <summary>
    /// 100,000 draws against the exact probabilities, by Pearson's chi-square at one in 100,000; each is also the
    /// CPU's draw.
    /// </summary>
    [Theory, MemberData(nameof(Distributions))]
    public unsafe void Draws_follow_the_exact_distribution(double temperature, int topK, double topP, double minP)
    {
        var gpu = Gpu.Require();
        const int vocabulary = 71;
        int rows = Gpu.Small ? 100 : 1000,
            launches = Gpu.Small ? 20 : 100;
        float[] x = Gpu.Normal(vocabulary, 21, 1.5);
        float scale = (float)(1 / temperature),
            max = x.Max(),
            threshold;
        fixed (float* logits = x)
            threshold = SimpleR1.Tensors.Cpu.SamplingFilters.Threshold(
                logits,
                vocabulary,
                new(max, scale, topK, topP, minP)
            );
        double[] exact = [.. x.Select(v => v >= threshold ? Math.Exp((v - max) * scale) : 0)];
        double total = exact.Sum();
        using var logitMemory = Gpu.Upload(
            gpu,
            [.. Enumerable.Repeat(x, rows).SelectMany(r => r)],
            ScalarType.Float32,
            out _
        );
        CudaSlotParameters[] parameters =
        [
            .. Enumerable
                .Range(0, rows)
                .Select(i => new CudaSlotParameters
                {
                    Seed = SimpleR1.Tensors.Cpu.Sampling.StreamSeed((ulong)i, 3),
                    Scale = scale,
                    TopK = topK,
                    TopP = (float)topP,
                    MinP = (float)minP,
                    Repetition = 1,
                    PromptLength = 1,
                }),
        ];
        using var parameterMemory = gpu.Allocate(48 * rows, "a test");
        gpu.Write<CudaSlotParameters>(parameterMemory.Pointer, parameters);
        using var slots = gpu.Allocate(4 * rows, "a test");
        using var at = gpu.Allocate(4 * rows, "a test");
        using var tokens = gpu.Allocate(4 * rows * 2, "a test");
        using var results = gpu.Allocate(8 * rows, "a test");
        using var thresholds = gpu.Allocate(4 * rows, "a test");
        using var meeting = gpu.Allocate(32 * 4 * rows, "a test");
        using var arrived = gpu.AllocateZeros(4 * rows, "a test");
        gpu.Write<int>(slots.Pointer, [.. Enumerable.Range(0, rows)]);
        long[] counts = new long[vocabulary];
        for (int n = 0; n < launches; n++)
        {
            gpu.Write<int>(at.Pointer, [.. Enumerable.Repeat(n, rows)]);
            gpu.Kernels.Get("SamplingFilters", "filter_thresholds", "ELEMENT=float")
                .Launch((rows, 1), 512, 0, logitMemory, vocabulary, slots, parameterMemory, thresholds);
            gpu.Kernels.Get("Sampling", "sample", "ELEMENT=float")
                .Launch(
                    (1 + n % 2, rows),
                    512,
                    0,
                    logitMemory,
                    vocabulary,
                    slots,
                    at,
                    parameterMemory,
                    thresholds,
                    tokens,
                    0,
                    results,
                    0,
                    meeting,
                    arrived
                );
            foreach (var (row, drawn) in gpu.Read<(int Token, float LogProb)>(results.Pointer, rows).Index())
            {
                counts[drawn.Token]++;
                if (row >= 5)
                    continue;
                Assert.Equal(
                    SimpleR1
                        .Tensors.Cpu.Sampling.Reference(
                            x,
                            new(max, scale, threshold),
                            new(parameters[row].Seed, (uint)n)
                        )
                        .Token,
                    drawn.Token
                );
                Assert.Equal(Math.Log(exact[drawn.Token] / total), drawn.LogProb, 1e-4);
            }
        }
        double draws = rows * (double)launches,
            statistic = 0;
        int degrees = -1;
        for (int t = 0; t < vocabulary; t++)
        {
            double expected = exact[t] / total * draws;
            if (expected == 0)
                Assert.Equal(0, counts[t]);
            else
            {
                statistic += (counts[t] - expected) * (counts[t] - expected) / expected;
                degrees++;
            }
        }
        // Wilson and Hilferty's approximation of the distribution's upper 1e-5 quantile (z = 4.265).
        double limit = degrees * Math.Pow(1 - 2.0 / (9 * degrees) + 4.265 * Math.Sqrt(2.0 / (9 * degrees)), 3);
        Assert.True(
            statistic < limit,
            $"chi-square {statistic:0.0} with {degrees} degrees of freedom, limit {limit:0.0}"
        );
    }
}
