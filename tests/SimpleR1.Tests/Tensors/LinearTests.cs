using SimpleR1.Tensors;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Tensors;

public sealed class LinearTests
{
    [Theory]
    [
        InlineData(1, 1, 1),
        InlineData(1, 7, 5),
        InlineData(3, 9, 33),
        InlineData(4, 4, 16),
        InlineData(6, 50, 100),
        InlineData(65, 130, 77),
        InlineData(131, 1030, 576)
    ]
    public void Linear_equals_the_product_in_float64(int rows, int outputs, int inputs)
    {
        using var scope = NewDisposeScope();
        Tensor x = randn(rows, inputs),
            weight = randn(outputs, inputs),
            bias = randn(outputs);
        foreach (var b in new[] { bias, null })
        {
            var expected =
                x.@double().mm(weight.@double().t()) + (b is null ? zeros(outputs, dtype: float64) : b.@double());
            double worst = (Ops.Linear(null, x, weight, b).@double() - expected).abs().max().item<double>();
            Assert.True(worst < 3e-7 * inputs + 1e-6, $"largest difference {worst:E2}");
        }
    }

    [Fact]
    public void Row_of_a_product_has_the_same_bits_in_every_batch()
    {
        using var scope = NewDisposeScope();
        Tensor x = randn(131, 237),
            weight = randn(95, 237),
            bias = randn(95),
            whole = Ops.Linear(null, x, weight, bias);
        foreach (int rows in new[] { 1, 2, 3, 4, 5, 8, 63, 64, 65, 130 })
            for (int from = 0; from + rows <= 131; from += Math.Max(1, rows / 2) + 40)
                Assert.True(
                    whole
                        .narrow(0, from, rows)
                        .Equals(Ops.Linear(null, x.narrow(0, from, rows).contiguous(), weight, bias)),
                    $"{rows} rows from {from}"
                );
    }
}
