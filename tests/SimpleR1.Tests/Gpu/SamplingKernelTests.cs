using SimpleR1.Inference.Cuda;
using SimpleR1.Tensors.Cpu;
using SimpleR1.Tensors.Cuda;
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

    private const int Vocabulary = 71;

    /// <summary>Rows of equal logits, whose samples differ in their seeds only, and the memory of a draw.</summary>
    private sealed class Draws : IDisposable
    {
        private readonly CudaDevice gpu;
        private readonly int rows;
        private readonly DeviceMemory logits;
        private readonly DeviceMemory parameters;
        private readonly DeviceMemory slots;
        private readonly DeviceMemory at;
        private readonly DeviceMemory tokens;
        private readonly DeviceMemory results;
        private readonly CudaFilters filters;
        private readonly DeviceMemory meeting;
        private readonly DeviceMemory arrived;

        public Draws(CudaDevice gpu, float[] x, CudaSlotParameters[] parameters)
        {
            this.gpu = gpu;
            rows = parameters.Length;
            float[] repeated = [.. Enumerable.Repeat(x, rows).SelectMany(r => r)];
            logits = Gpu.Upload(gpu, repeated, ScalarType.Float32, out _);
            this.parameters = gpu.Allocate(48 * rows, "a test");
            gpu.Write<CudaSlotParameters>(this.parameters.Pointer, parameters);
            slots = gpu.Allocate(4 * rows, "a test");
            at = gpu.Allocate(4 * rows, "a test");
            tokens = gpu.Allocate(4 * rows * 2, "a test");
            results = gpu.Allocate(8 * rows, "a test");
            filters = new(gpu, Vocabulary, rows);
            meeting = gpu.Allocate(32 * 4 * rows, "a test");
            arrived = gpu.AllocateZeros(4 * rows, "a test");
            gpu.Write<int>(slots.Pointer, [.. Enumerable.Range(0, rows)]);
        }

        /// <summary>A token of each row, for an output position.</summary>
        public (int Token, float LogProb)[] At(int position)
        {
            gpu.Write<int>(at.Pointer, [.. Enumerable.Repeat(position, rows)]);
            filters.Launch(logits.Pointer, slots.Pointer, parameters.Pointer, rows, shares: 1 + position % 2);
            gpu.Kernels.Get("Sampling", "sample", "ELEMENT=float")
                .Launch(
                    (1 + position % 2, rows),
                    512,
                    0,
                    logits,
                    Vocabulary,
                    slots,
                    at,
                    parameters,
                    filters.Thresholds,
                    tokens,
                    0,
                    results,
                    0,
                    meeting,
                    arrived
                );
            return gpu.Read<(int Token, float LogProb)>(results.Pointer, rows);
        }

        public void Dispose()
        {
            filters.Dispose();
            DeviceMemory[] all = [logits, parameters, slots, at, tokens, results, meeting, arrived];
            foreach (var memory in all)
                memory.Dispose();
        }
    }

    /// <summary>
    /// 100,000 draws against the exact probabilities, by Pearson's chi-square at one in 100,000; each is also the
    /// CPU's draw.
    /// </summary>
    [Theory, MemberData(nameof(Distributions))]
    public void Draws_follow_the_exact_distribution(double temperature, int topK, double topP, double minP)
    {
        var gpu = Gpu.Require();
        int rows = Gpu.Small ? 100 : 1000,
            launches = Gpu.Small ? 20 : 100;
        float[] x = Gpu.Normal(Vocabulary, 21, 1.5);
        float scale = (float)(1 / temperature),
            max = x.Max(),
            threshold = Threshold(x, new(max, scale, topK, topP, minP));
        double[] exact = [.. x.Select(v => v >= threshold ? Math.Exp((v - max) * scale) : 0)];
        double total = exact.Sum();
        CudaSlotParameters[] parameters =
        [
            .. Enumerable
                .Range(0, rows)
                .Select(i => new CudaSlotParameters
                {
                    Seed = Sampling.StreamSeed((ulong)i, 3),
                    Scale = scale,
                    TopK = topK,
                    TopP = (float)topP,
                    MinP = (float)minP,
                    Repetition = 1,
                    PromptLength = 1,
                }),
        ];
        using var draws = new Draws(gpu, x, parameters);
        long[] counts = new long[Vocabulary];
        for (int n = 0; n < launches; n++)
            foreach (var (row, drawn) in draws.At(n).Index())
            {
                counts[drawn.Token]++;
                if (row >= 5)
                    continue;
                var noise = new Sampling.Noise(parameters[row].Seed, (uint)n);
                Assert.Equal(Sampling.Reference(x, new(max, scale, threshold), noise).Token, drawn.Token);
                Assert.Equal(Math.Log(exact[drawn.Token] / total), drawn.LogProb, 1e-4);
            }
        AssertFollow([.. exact.Select(e => e / total * (rows * (double)launches))], counts);
    }

    private static unsafe float Threshold(float[] x, SamplingFilters.Settings settings)
    {
        fixed (float* logits = x)
            return SamplingFilters.Threshold(logits, x.Length, settings);
    }

    /// <summary>Pearson's chi-square test; what is not expected at all must not be drawn.</summary>
    private static void AssertFollow(double[] expected, long[] counts)
    {
        double statistic = 0;
        int degrees = -1;
        foreach (var (mean, count) in expected.Zip(counts))
        {
            if (mean == 0)
                Assert.Equal(0, count);
            else
            {
                statistic += (count - mean) * (count - mean) / mean;
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
