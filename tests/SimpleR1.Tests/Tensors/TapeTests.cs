using SimpleR1.Tensors;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Tensors;

public sealed class TapeTests
{
    private const int Tokens = 7,
        Hidden = 12;

    private static Tensor Random(ulong seed, params long[] shape)
    {
        using var generator = new Generator(seed, CPU);
        return randn(shape, generator: generator);
    }

    /// <summary>
    /// Another consumer of x, recorded before or after the producer of delta: x + delta hands one gradient to both,
    /// and what comes to x later must not reach delta. Against autograd.
    /// </summary>
    [Theory, InlineData(false, false), InlineData(false, true), InlineData(true, false), InlineData(true, true)]
    public void Residual_with_another_consumer_has_the_gradients_of_autograd(bool selectFirst, bool checkpoint)
    {
        using var scope = NewDisposeScope();
        Tensor x = Random(1, Tokens, Hidden),
            weight = Random(2, Hidden, Hidden),
            bias = Random(3, Hidden),
            norm = Random(4, Hidden),
            rows = tensor(new long[] { 5, 0, 3 });
        Tensor dWeight = zeros_like(weight),
            dBias = zeros_like(bias),
            dNorm = zeros_like(norm);
        Tensor[] upstream = [Random(6, Tokens, Hidden), Random(5, Tokens, Hidden), Random(7, 3, Hidden)];

        using var tape = new Tape();
        tape.Parameter(weight, dWeight);
        tape.Parameter(bias, dBias);
        tape.Parameter(norm, dNorm);
        Tensor[] Forward(Tape? t, Tensor[] input)
        {
            var early = selectFirst ? Ops.SelectRows(t, input[0], rows) : null;
            var delta = Ops.Linear(t, input[0], weight, bias);
            var selected = early ?? Ops.SelectRows(t, input[0], rows);
            var (sum, normed) = Ops.AddRmsNorm(t, input[0], delta, norm, 1e-5);
            return [normed, sum, selected];
        }
        var outputs = checkpoint ? tape.Checkpoint(Forward, [x]) : Forward(tape, [x]);
        tape.Accumulate(outputs[1], upstream[1].clone());
        tape.Accumulate(outputs[2], upstream[2].clone());
        tape.Backward(outputs[0], upstream[0].clone());
        var dx = tape.TakeGradient(x);

        Tensor[] leaves = [.. new[] { x, weight, bias, norm }.Select(t => t.detach().requires_grad_(true))];
        AutogradBackward(leaves, rows, upstream);
        foreach (var (leaf, found) in leaves.Zip([dx, dWeight, dBias, dNorm]))
            AssertClose(leaf.grad!, found);
    }

    /// <param name="leaves">x, weight, bias, norm.</param>
    /// <param name="upstream">The gradients of the normalised sum, of the sum, and of the selected rows.</param>
    private static void AutogradBackward(Tensor[] leaves, Tensor rows, Tensor[] upstream)
    {
        var sum = leaves[0] + leaves[0].mm(leaves[1].t()) + leaves[2];
        var loss =
            (sum * upstream[1]).sum()
            + (Normalized(sum) * leaves[3] * upstream[0]).sum()
            + (leaves[0].index_select(0, rows) * upstream[2]).sum();
        loss.backward();
    }

    /// <summary>
    /// A parallel block: both sums share x, so that a shared gradient meets a shared one, and one that is still read
    /// is written.
    /// </summary>
    [Fact]
    public void Two_sums_of_one_residual_have_the_gradients_of_autograd()
    {
        using var scope = NewDisposeScope();
        Tensor x = Random(1, Tokens, Hidden),
            first = Random(2, Hidden, Hidden),
            second = Random(3, Hidden, Hidden),
            norm = Random(4, Hidden);
        Tensor[] gradients = [zeros_like(first), zeros_like(second)];
        var upstream = Random(5, Tokens, Hidden);

        using var tape = new Tape();
        tape.Parameter(first, gradients[0]);
        tape.Parameter(second, gradients[1]);
        var delta1 = Ops.Linear(tape, x, first);

        // Before the first sum: its gradient is read after that sum's is written.
        var delta2 = Ops.Linear(tape, x, second);
        var (sum1, normed1) = Ops.AddRmsNorm(tape, x, delta1, norm, 1e-5);
        var (sum2, normed2) = Ops.AddRmsNorm(tape, sum1, delta2, norm, 1e-5);
        var (sum3, _) = Ops.AddRmsNorm(tape, x, normed2, norm, 1e-5);
        var (sum4, _) = Ops.AddRmsNorm(tape, sum3, normed1, norm, 1e-5);
        tape.Accumulate(sum2, upstream.clone());
        tape.Backward(sum4, upstream.clone());
        var dx = tape.TakeGradient(x);

        Tensor[] leaves = [.. new[] { x, first, second }.Select(t => t.detach().requires_grad_(true))];
        var a = leaves[0] + leaves[0].mm(leaves[1].t());
        var b = a + leaves[0].mm(leaves[2].t());
        var end = leaves[0] + Normalized(b) * norm + Normalized(a) * norm;
        ((b + end) * upstream).sum().backward();
        foreach (var (leaf, found) in leaves.Zip([dx, gradients[0], gradients[1]]))
            AssertClose(leaf.grad!, found);
    }

    private static Tensor Normalized(Tensor t) => t * (t.pow(2).mean([1L], keepdim: true) + 1e-5).rsqrt();

    private static void AssertClose(Tensor expected, Tensor found)
    {
        double error = (expected - found).norm().item<float>() / (expected.norm().item<float>() + 1e-12);
        Assert.True(error < 1e-5, $"relative error {error:E2}");
    }
}
