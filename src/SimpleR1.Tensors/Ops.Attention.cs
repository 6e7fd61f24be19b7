using SimpleR1.Tensors.Operands;
using static TorchSharp.torch;

namespace SimpleR1.Tensors;

public static partial class Ops
{
    /// <summary>
    /// Qwen3's norm of each q and k head: qkv [t, (heads + 2·kvHeads)·d] → the same with q and k heads normalised.
    /// </summary>
    public static Tensor QueryKeyNorm(Tape? tape, Tensor qkv, QueryKeyNormWeights norms)
    {
        var kernels = IKernels.Of(qkv);
        var shape = norms.Shape;
        var type = norms.Query.dtype;
        Require.On(kernels, qkv, [-1, shape.QkvRow], kernels.Activations(type));
        Require.On(kernels, norms.Query, [shape.HeadDimension], type);
        Require.On(kernels, norms.Key, [shape.HeadDimension], type);

        var y = kernels.Allocate(qkv.shape, qkv.dtype);
        kernels.QueryKeyNorm(qkv, norms, y);
        tape?.Record(
            [y],
            () =>
            {
                using var dy = tape.TakeGradient(y);
                var dQkv = kernels.Allocate(qkv.shape, qkv.dtype);
                var dWeights = (tape.ParameterGradient(norms.Query), tape.ParameterGradient(norms.Key));
                kernels.QueryKeyNormGradient(qkv, norms, dy, dQkv, dWeights);
                tape.Accumulate(qkv, dQkv);
            }
        );
        return y;
    }

    /// <summary>
    /// Rotates the q and k heads of qkv [t, (heads + 2·kvHeads)·d] IN PLACE by each token's position and returns it.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">A position is outside the tables (checked on a CPU).</exception>
    public static Tensor Rotary(Tape? tape, Tensor qkv, RotaryAngles angles, AttentionShape shape)
    {
        var kernels = IKernels.Of(qkv);
        Require.On(kernels, qkv, [-1, shape.QkvRow], qkv.dtype);
        Require.On(kernels, angles.Positions, [qkv.shape[0]], int64);
        Require.On(kernels, angles.Cosine, [-1, shape.HeadDimension / 2], float32);
        Require.On(kernels, angles.Sine, angles.Cosine.shape, float32);

        kernels.Rotary(qkv, angles, shape);
        tape?.Record(
            [],
            () =>
            {
                var dQkv = tape.TakeOwnGradient(qkv);
                kernels.RotaryGradient(dQkv, angles, shape);
                tape.Accumulate(qkv, dQkv);
            }
        );
        return qkv;
    }

    /// <summary>Causal attention of packed sequences: qkv [t, (heads + 2·kvHeads)·d] → [t, heads·d].</summary>
    public static Tensor PackedAttention(Tape? tape, Tensor qkv, PackedSequences sequences)
    {
        var kernels = IKernels.Of(qkv);
        var shape = sequences.Shape;
        sequences.Check();
        Require.On(kernels, qkv, [sequences.Tokens, shape.QkvRow], qkv.dtype);

        long tokens = qkv.shape[0];
        var output = kernels.Allocate([tokens, shape.OutputRow], qkv.dtype);
        if (tape is null)
        {
            kernels.PackedAttention(qkv, sequences, new(output, null));
            return output;
        }

        var logSum = kernels.Allocate([tokens, shape.Heads], float32);
        var result = new AttentionResult(output, logSum);
        kernels.PackedAttention(qkv, sequences, result);
        tape.Record(
            [output, logSum],
            () =>
            {
                using var dOutput = tape.TakeGradient(output);
                var dQkv = kernels.Allocate(qkv.shape, qkv.dtype);
                kernels.PackedAttentionGradient(qkv, sequences, result, dOutput, dQkv);
                tape.Accumulate(qkv, dQkv);
            }
        );
        return output;
    }
}
