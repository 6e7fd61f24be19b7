using SimpleR1.Tensors.Operands;
using static TorchSharp.torch;

namespace SimpleR1.Tensors;

/// <summary>
/// The operations a decoder is made of. Each checks its shapes, takes memory for its result, computes where its
/// weights are, and, when a <see cref="Tape"/> is given, records its gradient. Without a tape a result belongs to the
/// current dispose scope, its memory on a GPU to the current <see cref="Cuda.ResultMemory"/>. Weights are bf16, f16 or f32.
/// Activations have the weights' type on a GPU, where x [t, h], the residual stream, is f32; on a CPU they are f32, and
/// weights of 16 bits have no gradient. Shapes: t tokens, h hidden, v vocabulary, d head dimension.
/// </summary>
public static partial class Ops
{
    /// <summary>
    /// Alpha of additions on the tape: x + y and add_(y) would make a new one each time, which is never freed (see
    /// build/KeepScalars.cs).
    /// </summary>
    internal static readonly TorchSharp.Scalar One = 1;

    /// <summary>Zeros of a tensor's shape and type, where it is.</summary>
    public static Tensor ZerosLike(Tensor tensor) => IKernels.Of(tensor).AllocateZeros(tensor.shape, tensor.dtype);

    /// <summary>Copies numbers between two tensors of one shape, type and device.</summary>
    /// <exception cref="ArgumentException">They differ, or are not contiguous.</exception>
    public static void Copy(Tensor from, Tensor to)
    {
        var kernels = IKernels.Of(to);
        Require.On(kernels, from, to.shape, to.dtype);
        Require.On(kernels, to, to.shape, to.dtype);
        kernels.Copy(from, to);
    }

    /// <summary>Rows of a table: ids [t] int64, table [v, h] → [t, h].</summary>
    /// <exception cref="ArgumentOutOfRangeException">An id is outside the table (checked on a CPU).</exception>
    public static Tensor Embedding(Tape? tape, Tensor table, Tensor ids)
    {
        var kernels = IKernels.Of(table);
        Require.On(kernels, table, [-1, -1], table.dtype);
        Require.On(kernels, ids, [-1], int64);

        var y = kernels.Allocate([ids.shape[0], table.shape[1]], float32);
        kernels.Embedding(table, ids, y);
        tape?.Record(
            [y],
            () =>
            {
                using var dy = tape.TakeGradient(y);
                if (tape.ParameterGradient(table) is { } dTable)
                    kernels.EmbeddingGradient(ids, dy, dTable);
            }
        );
        return y;
    }

    /// <summary>x·Wᵀ + b: x [t, in], weight [out, in], bias [out] or null → [t, out].</summary>
    public static Tensor Linear(Tape? tape, Tensor x, Tensor weight, Tensor? bias = null)
    {
        var kernels = IKernels.Of(weight);
        RequireProduct(kernels, x, weight, bias);

        var y = kernels.Allocate([x.shape[0], weight.shape[0]], kernels.Activations(weight.dtype));
        kernels.Linear(x, weight, bias, y);
        tape?.Record(
            [y],
            () =>
            {
                using var dy = tape.TakeGradient(y);
                var dx = kernels.Allocate(x.shape, x.dtype);
                kernels.LinearInputGradient(dy, weight, dx);
                if (tape.ParameterGradient(weight) is { } dWeight)
                    kernels.LinearWeightGradient(dy, x, dWeight);
                tape.Accumulate(x, dx);
                if (bias is not null && tape.ParameterGradient(bias) is { } dBias)
                    kernels.LinearBiasGradient(dy, dBias);
            }
        );
        return y;
    }

    /// <summary>The same without bias into the caller's memory: y [t, out], f32 or of the weights' type.</summary>
    public static void LinearInto(Tensor x, Tensor weight, Tensor y)
    {
        var kernels = IKernels.Of(weight);
        RequireProduct(kernels, x, weight, null);
        Require.On(
            kernels,
            y,
            [x.shape[0], weight.shape[0]],
            y.dtype == float32 ? float32 : kernels.Activations(weight.dtype)
        );

        kernels.Linear(x, weight, null, y);
    }

    /// <summary>x / rms(x) · weight over the last dimension: x [t, h], weight [h] → [t, h].</summary>
    public static Tensor RmsNorm(Tape? tape, Tensor x, Tensor weight, double epsilon)
    {
        var kernels = IKernels.Of(weight);
        RequireNorm(kernels, x, weight);

        var norm = new NormWeight(weight, epsilon);
        var y = kernels.Allocate(x.shape, kernels.Activations(weight.dtype));
        kernels.RmsNorm(x, norm, y);
        tape?.Record(
            [y],
            () =>
            {
                using var dy = tape.TakeGradient(y);
                var dx = kernels.AllocateZeros(x.shape, x.dtype);
                kernels.RmsNormGradient(x, norm, dy, new(dx, null, tape.ParameterGradient(weight)));
                tape.Accumulate(x, dx);
            }
        );
        return y;
    }

    /// <summary>The residual stream's step: sum = x + delta, and sum's RMS norm. Both [t, h].</summary>
    public static (Tensor Sum, Tensor Normed) AddRmsNorm(
        Tape? tape,
        Tensor x,
        Tensor delta,
        Tensor weight,
        double epsilon
    )
    {
        var kernels = IKernels.Of(weight);
        RequireNorm(kernels, x, weight);
        Require.On(kernels, delta, x.shape, kernels.Activations(weight.dtype));

        var norm = new NormWeight(weight, epsilon);
        Tensor sum = kernels.Allocate(x.shape, x.dtype),
            y = kernels.Allocate(x.shape, kernels.Activations(weight.dtype));
        kernels.AddRmsNorm(x, delta, norm, sum, y);
        tape?.Record(
            [sum, y],
            () =>
            {
                using var dy = tape.TakeGradient(y);
                var dSum = tape.TakeOwnGradient(sum);
                bool hasOneType = weight.dtype == x.dtype;
                var dDelta = hasOneType ? null : kernels.Allocate(sum.shape, weight.dtype);
                kernels.RmsNormGradient(sum, norm, dy, new(dSum, dDelta, tape.ParameterGradient(weight)));
                if (dDelta is null)
                {
                    tape.AccumulateShared(delta, x, dSum);
                    return;
                }
                tape.Accumulate(delta, dDelta);
                tape.Accumulate(x, dSum);
            }
        );
        return (sum, y);
    }

    /// <summary>silu(gate)·up: gateUp [t, 2·i] → [t, i].</summary>
    public static Tensor SwiGlu(Tensor gateUp)
    {
        var kernels = IKernels.Of(gateUp);
        Require.On(kernels, gateUp, [-1, -1], gateUp.dtype);

        var y = kernels.Allocate([gateUp.shape[0], gateUp.shape[1] / 2], gateUp.dtype);
        kernels.SwiGlu(gateUp, y);
        return y;
    }

    /// <summary>silu(x·gateᵀ)·(x·upᵀ): x [t, h], weight [2·i, h] (gate, then up) → [t, i].</summary>
    public static Tensor GatedLinear(Tensor x, Tensor weight)
    {
        var kernels = IKernels.Of(weight);
        RequireProduct(kernels, x, weight, null);
        var y = kernels.Allocate([x.shape[0], weight.shape[0] / 2], kernels.Activations(weight.dtype));
        kernels.GatedLinear(x, weight, y);
        return y;
    }

    /// <summary>
    /// A gated feed-forward layer (Shazeer 2020, "GLU Variants Improve Transformer"): (silu(x·gateᵀ)·(x·upᵀ))·downᵀ.
    /// </summary>
    /// <param name="x">[t, h]</param>
    /// <param name="gateUp">[2·i, h]: gate, then up</param>
    /// <param name="down">[h, i]</param>
    /// <returns>[t, h]</returns>
    public static Tensor GatedMlp(Tape? tape, Tensor x, Tensor gateUp, Tensor down)
    {
        if (tape is null)
            return Linear(null, GatedLinear(x, gateUp), down);

        var kernels = IKernels.Of(down);
        var projected = Linear(tape, x, gateUp); // [t, 2·i], the largest of what is kept
        var y = kernels.Allocate([x.shape[0], down.shape[0]], down.dtype);
        using (var gated = SwiGlu(projected)) // [t, i]; not kept: its gradient makes it again
        {
            RequireProduct(kernels, gated, down, null);
            kernels.Linear(gated, down, null, y);
        }
        tape.Record([y], () => GatedMlpGradient(tape, projected, down, y));
        return y;
    }

    private static void GatedMlpGradient(Tape tape, Tensor projected, Tensor down, Tensor y)
    {
        var kernels = IKernels.Of(down);
        using var dy = tape.TakeGradient(y);
        using var dGated = kernels.Allocate([dy.shape[0], down.shape[1]], down.dtype);
        kernels.LinearInputGradient(dy, down, dGated);

        using var gated = kernels.Allocate(dGated.shape, down.dtype);
        kernels.SwiGluGradient(projected, dGated, projected, gated); // in place: nothing else needs what was projected
        if (tape.ParameterGradient(down) is { } dDown)
            kernels.LinearWeightGradient(dy, gated, dDown);
        tape.Accumulate(projected, projected.alias());
    }

    /// <summary>Chosen rows of x: x [t, h], indices [r] int64 → [r, h].</summary>
    public static Tensor SelectRows(Tape? tape, Tensor x, Tensor indices)
    {
        var kernels = IKernels.Of(x);
        Require.On(kernels, x, [-1, -1], x.dtype);
        Require.On(kernels, indices, [-1], int64);

        var y = kernels.Allocate([indices.shape[0], x.shape[1]], x.dtype);
        kernels.SelectRows(x, indices, y);
        tape?.Record(
            [y],
            () =>
            {
                using var dy = tape.TakeGradient(y);
                var dx = kernels.AllocateZeros(x.shape, x.dtype);
                kernels.SelectRowsGradient(indices, dy, dx);
                tape.Accumulate(x, dx);
            }
        );
        return y;
    }

    /// <summary>One AdamW step on a range of flat buffers; see <see cref="Cpu.AdamW"/> for the formula.</summary>
    public static void AdamWStep(AdamWBuffers buffers, long first, long length, AdamWSettings settings)
    {
        var weight = buffers.Weight;
        var kernels = IKernels.Of(weight);
        Require.On(kernels, weight, [-1], buffers.Remainder is null ? float32 : bfloat16);
        if (buffers.Remainder is { } remainder)
            Require.On(kernels, remainder, weight.shape, int16);
        Require.On(kernels, buffers.Gradient, weight.shape, float32);
        Require.On(kernels, buffers.Mean, weight.shape, float32);
        Require.On(kernels, buffers.Variance, weight.shape, float32);
        if (first < 0 || length < 0 || first + length > weight.shape[0])
            throw new ArgumentOutOfRangeException(
                nameof(length),
                $"range {first}+{length} is outside the buffer of {weight.shape[0]}"
            );

        kernels.AdamW(buffers, first, length, settings);
    }

    /// <summary>√Σx² of a flat buffer, with the same bits on any number of threads.</summary>
    public static double Norm(Tensor x)
    {
        var kernels = IKernels.Of(x);
        Require.On(kernels, x, [-1], float32);
        return Math.Sqrt(kernels.SumOfSquares(x));
    }

    private static void RequireProduct(IKernels kernels, Tensor x, Tensor weight, Tensor? bias)
    {
        Require.On(kernels, weight, [-1, x.shape[^1]], weight.dtype);
        Require.On(kernels, x, [-1, weight.shape[1]], kernels.Activations(weight.dtype));
        if (bias is not null)
            Require.On(kernels, bias, [weight.shape[0]], weight.dtype);
    }

    private static void RequireNorm(IKernels kernels, Tensor x, Tensor weight)
    {
        Require.On(kernels, weight, [x.shape[^1]], weight.dtype);
        Require.On(kernels, x, [-1, weight.shape[0]], float32);
    }
}
