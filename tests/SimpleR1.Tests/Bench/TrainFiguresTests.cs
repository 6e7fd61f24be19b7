using SimpleR1.Bench.Training;
using SimpleR1.Tensors;
using Xunit;

namespace SimpleR1.Tests.Bench;

/// <summary>What bench train derives from its measurements: shares of the GPU's rate, time by part.</summary>
public sealed class TrainFiguresTests
{
    [Theory]
    [InlineData("NVIDIA H200", 989)]
    [InlineData("NVIDIA H100 80GB HBM3", 989)]
    [InlineData("NVIDIA A100-SXM4-80GB", 312)]
    [InlineData("NVIDIA L40S", 362)]
    [InlineData("NVIDIA GeForce RTX 4090", 165)]
    public void Nominal_rate_is_known_by_the_gpus_name(string gpu, double rate)
    {
        Assert.Equal(rate, GpuRate.NominalOf(gpu, ElementType.BF16));
        Assert.Equal(rate, GpuRate.NominalOf(gpu, ElementType.F16));
        Assert.Null(GpuRate.NominalOf(gpu, ElementType.F32));
    }

    [Theory]
    [InlineData("NVIDIA H100 PCIe")]
    [InlineData("NVIDIA H100 80GB HBM3 MIG 1g.10gb")]
    [InlineData("NVIDIA GeForce RTX 4090 Laptop GPU")]
    [InlineData("NVIDIA L40")]
    public void Similar_names_have_no_nominal_rate(string gpu) => Assert.Null(GpuRate.NominalOf(gpu, ElementType.BF16));

    [Fact]
    public void Shares_are_of_the_measured_and_of_the_nominal_rate()
    {
        SortedDictionary<string, double> figures = new() { ["model_tflops_per_second"] = 400 };
        new GpuRate(Measured: 800, Size: 8192, Nominal: null).AddShares(figures);
        Assert.Equal(0.5, figures["share_of_measured_rate"]);
        Assert.DoesNotContain("share_of_nominal_rate", figures.Keys);

        var rate = new GpuRate(Measured: 800, Size: 8192, Nominal: 1000);
        rate.AddShares(figures);
        Assert.Equal(0.4, figures["share_of_nominal_rate"]);
        Assert.Equal(
            "50% of the 800 TFLOP/s of a product of 8192³ in this run, 40% of the nominal 1000",
            rate.Describe(400)
        );
    }

    [Theory]
    [InlineData("product with [48, 24]", "products")]
    [InlineData("weight gradient with [80, 24]", "products")]
    [InlineData("input gradient with [24, 40]", "products")]
    [InlineData("small_linear_4_1", "products")]
    [InlineData("product with [61, 24]", "head")]
    [InlineData("weight gradient with [61, 24]", "head")]
    [InlineData("token_log_probs_gradient", "head")]
    [InlineData("packed_attention", "attention_forward")]
    [InlineData("plain_packed_attention", "attention_forward")]
    [InlineData("packed_attention_query_gradient", "attention_backward")]
    [InlineData("packed_attention_add_parts", "attention_backward")]
    [InlineData("plain_packed_attention_key_gradient", "attention_backward")]
    [InlineData("add_rms_norm", "norms")]
    [InlineData("rms_norm_gradient", "norms")]
    [InlineData("query_key_norm_gradient", "norms")]
    [InlineData("swiglu_gradient", "swiglu")]
    [InlineData("adamw_split", "optimizer")]
    [InlineData("sum_of_squares", "optimizer")]
    [InlineData("embedding", "other")]
    [InlineData("add_parts", "other")]
    [InlineData("add", "other")]
    public void Kernels_belong_to_parts_by_their_names(string kernel, string part) =>
        Assert.Equal(part, TrainingParts.PartOf(kernel, TinyModels.Config()));

    [Fact]
    public void Parts_add_up_with_the_longest_first()
    {
        var parts = TrainingParts.Group(
            [("adamw", 1, 4), ("product with [48, 24]", 6, 3), ("input gradient with [48, 24]", 6, 2.5)],
            TinyModels.Config()
        );
        Assert.Equal([("products", 12, 5.5), ("optimizer", 1, 4)], parts);
    }
}
