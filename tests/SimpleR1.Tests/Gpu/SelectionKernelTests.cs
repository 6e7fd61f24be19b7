using SimpleR1.Inference;
using SimpleR1.Inference.Cuda;
using SimpleR1.Tensors.Cpu;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

/// <summary>Filters and the most probable tokens on a GPU against the CPU's, on rows that are hard to select from.</summary>
[Collection("GPU"), Trait("Category", "Gpu")]
public sealed class SelectionKernelTests
{
    public static readonly TheoryData<string, int> Rows =
    [
        .. from kind in new[] { "normal", "peaked", "flat", "ties", "equal", "masked" }
        from vocabulary in new[] { 71, 6_000, 20_001 }
        select (kind, vocabulary),
    ];

    private static readonly (double Temperature, int TopK, double TopP, double MinP)[] settings =
    [
        (1, 1, 1, 0),
        (1, 50, 1, 0),
        (0.7, 5_000, 1, 0),
        (1, 0, 0.9, 0),
        (0.6, 0, 0.95, 0),
        (1.5, 0, 0.999, 0),
        (1, 0, 1e-9, 0),
        (0.01, 0, 0.5, 0),
        (1, 40, 0.8, 0),
        (1, 5_500, 0.99, 0), // top-k keeps more than the kernel's list of candidates holds
        (1, 0, 1, 0.05),
        (0.8, 100, 0.9, 0.01),
        (1, 0, 1, 0),
    ];

    private static float[] Logits(string kind, int vocabulary)
    {
        float[] x = Gpu.Normal(vocabulary, 5, 2);
        for (int i = 0; i < vocabulary; i++)
            x[i] = kind switch
            {
                "peaked" => i == 13 ? 40 : x[i],
                "flat" => x[i] / 1000,
                "ties" => MathF.Round(x[i]),
                "equal" => 3,
                "masked" => i % 3 == 0 ? x[i] : float.NegativeInfinity,
                _ => x[i],
            };
        return x;
    }

    /// <summary>All settings at once, a row each; twice, because the kernels leave their memory ready for the next.</summary>
    [Theory, MemberData(nameof(Rows))]
    public void Thresholds_keep_what_the_CPU_keeps(string kind, int vocabulary)
    {
        var gpu = Gpu.Require();
        float[] x = Logits(kind, vocabulary);
        using var logits = Gpu.Upload(
            gpu,
            [.. Enumerable.Repeat(x, settings.Length).SelectMany(r => r)],
            ScalarType.Float32,
            out _
        );
        using var slots = gpu.Allocate(4 * settings.Length, "a test");
        gpu.Write<int>(slots.Pointer, [.. Enumerable.Range(0, settings.Length)]);
        using var parameters = gpu.Allocate(48 * settings.Length, "a test");
        gpu.Write<CudaSlotParameters>(parameters.Pointer, [.. settings.Select(Parameters)]);
        using var filters = new CudaFilters(gpu, vocabulary, settings.Length);

        foreach (int shares in new[] { 1, 5 })
        {
            filters.Launch(logits.Pointer, slots.Pointer, parameters.Pointer, settings.Length, shares);
            float[] found = gpu.Read<float>(filters.Thresholds, settings.Length);
            for (int i = 0; i < settings.Length; i++)
                AssertKeeps(x, settings[i], found[i]);
        }
    }

    private static CudaSlotParameters Parameters((double Temperature, int TopK, double TopP, double MinP) s) =>
        new()
        {
            Scale = (float)(1 / s.Temperature),
            TopK = s.TopK,
            TopP = (float)s.TopP,
            MinP = (float)s.MinP,
            Repetition = 1,
        };

    /// <summary>
    /// The kept set is the CPU's. Where top-p's sum comes to within rounding of a token's border, that token may be on
    /// either side.
    /// </summary>
    private static unsafe void AssertKeeps(
        float[] x,
        (double Temperature, int TopK, double TopP, double MinP) s,
        float found
    )
    {
        float scale = (float)(1 / s.Temperature);
        float expected;
        fixed (float* p = x)
            expected = SamplingFilters.Threshold(
                p,
                x.Length,
                new(x.Max(), scale, s.TopK, (float)s.TopP, (float)s.MinP)
            );
        if (x.Count(v => v >= expected) == x.Count(v => v >= found))
            return;

        string what = $"{s}: expected {expected}, found {found}";
        Assert.True(s.TopP < 1, what);
        double total = x.Sum(v => Math.Exp((v - x.Max()) * (double)scale));
        double between = x.Where(v => v >= Math.Min(found, expected) && v < Math.Max(found, expected))
            .Sum(v => Math.Exp((v - x.Max()) * (double)scale));
        Assert.True(between / total < 2e-6, $"{what}, mass between {between / total}");
    }

    [Theory, MemberData(nameof(Rows))]
    public unsafe void Top_tokens_are_the_CPUs(string kind, int vocabulary)
    {
        var gpu = Gpu.Require();
        float[] x = Logits(kind, vocabulary);
        int[] wanted = [1, 5, 20, 71, Math.Min(700, vocabulary)];
        float[] kept = [float.NegativeInfinity, x.Order().ElementAt(vocabulary / 2)];
        using var logits = Gpu.Upload(gpu, [.. x, .. x], ScalarType.Float32, out _);
        using var thresholds = Gpu.Upload(gpu, kept, ScalarType.Float32, out _);
        using var found = gpu.Allocate(8 * 2 * wanted.Sum(), "a test");
        using var counts = gpu.Allocate(4 * 2 * wanted.Length, "a test");
        using var rows = gpu.Allocate(16 * 2 * wanted.Length, "a test");
        int place = 0;
        var listed = new List<(int Row, int Wanted, int Place, int)>();
        foreach (int row in new[] { 0, 1 })
        foreach (int k in wanted)
        {
            listed.Add((row, k, place, 0));
            place += k;
        }
        gpu.Write<(int, int, int, int)>(rows.Pointer, [.. listed]);

        gpu.Kernels.Get("TopTokens", "top_tokens", "ELEMENT=float")
            .Launch((listed.Count, 1), 512, 0, logits, vocabulary, rows, thresholds, found, counts);
        int[] count = gpu.Read<int>(counts.Pointer, listed.Count);
        var all = gpu.Read<(int Token, float Logit)>(found.Pointer, place);
        foreach (var (i, (row, k, first, _)) in listed.Index())
        {
            TokenLogProb[] expected;
            fixed (float* p = x)
                expected = Sampled.MostProbable(p, vocabulary, k, kept[row], token => x[token]);
            Assert.Equal(
                expected,
                Sampled.Ordered(all[first..(first + count[i])].Select(t => new TokenLogProb(t.Token, t.Logit)))
            );
        }
    }
}
