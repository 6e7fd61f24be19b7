using SimpleR1.Bench;
using SimpleR1.Bench.Training;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using Xunit;

namespace SimpleR1.Tests.Gpu;

/// <summary>bench train on a model that is as small as can be.</summary>
[Collection("GPU"), Trait("Category", "Gpu")]
public sealed class TrainBenchmarkTests
{
    private readonly CudaDevice gpu = Gpu.Require();

    [Fact]
    public void Every_kernel_of_a_step_is_in_a_part_and_the_rest_is_small_change()
    {
        using var weights = NamedShapes.RandomWeights(Gpu.TinyConfig, ElementType.BF16.Scalar, gpu);
        var options = new TrainBenchmarkOptions
        {
            Gpu = gpu.Index,
            Type = ElementType.BF16,
            Sequences = 2,
            Samples = 1,
            Length = 12,
            Prompt = 4,
            TokensPerMicroBatch = 64,
            Checkpointing = false,
            Repeats = 1,
        };
        var lines = new List<string>();
        using var benchmark = new TrainBenchmark(weights, "tiny", options, lines.Add);
        var figures = benchmark.Run().Figures;
        benchmark.AddParts(figures);

        Assert.True(figures["step_seconds"] > 0);
        string[] parts = [.. figures.Keys.Where(k => k.StartsWith("part_", StringComparison.Ordinal))];
        Assert.Equal(
            [
                "part_attention_backward_milliseconds",
                "part_attention_forward_milliseconds",
                "part_head_milliseconds",
                "part_norms_milliseconds",
                "part_optimizer_milliseconds",
                "part_other_milliseconds",
                "part_products_milliseconds",
                "part_swiglu_milliseconds",
            ],
            parts
        );
        Assert.StartsWith("       all kernels", lines[^1]);

        // A kernel that is new in a step belongs into one of the lists, unless it is one of these.
        string[] other =
        [
            .. benchmark
                .Profile()
                .Select(k => k.Name)
                .Where(name => TrainingParts.PartOf(name, weights.Layout.Config) == TrainingParts.Other),
        ];
        string[] expected =
        [
            "add",
            "add_parts",
            "clear_readers",
            "column_sum",
            "count_readers",
            "embedding",
            "rotary",
            "scatter_rows",
            "select_rows",
        ];
        Assert.Equal([], other.Except(expected));
    }

    [Fact]
    public void Rate_of_a_product_is_measured()
    {
        var rate = GpuRate.Measure(gpu, ElementType.BF16);
        Assert.True(rate.Measured > 0);
        Assert.Contains(rate.Size, new[] { 1032, 8192 });
    }
}
