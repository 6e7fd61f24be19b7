using SimpleR1.Tensors.Operands;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda.Operations;

/// <content>Norms, rotation and the gate, with their gradients.</content>
internal sealed partial class CudaKernels
{
    private const int BlocksPerMultiprocessor = 4; // of kernels that take rows in turn and keep a sum of their own
    private const int RotaryThreads = 128,
        NormWarps = 4;

    public void RmsNorm(Tensor x, NormWeight norm, Tensor y) => AddAndNorm(x, null, norm, x, y);

    public void AddRmsNorm(Tensor x, Tensor delta, NormWeight norm, Tensor sum, Tensor y) =>
        AddAndNorm(x, delta, norm, sum, y);

    private void AddAndNorm(Tensor x, Tensor? delta, NormWeight norm, Tensor sum, Tensor y)
    {
        int rows = (int)x.shape[0],
            width = (int)x.shape[1];
        gpu.Kernels.Get("RmsNorm", "add_rms_norm", Element(norm.Weight))
            .Launch((rows, 1), ThreadsFor(width / 8), 0, x, delta, sum, norm.Weight, y, width, (float)norm.Epsilon);
    }

    /// <exception cref="NotSupportedException">Rows are longer than 8,192.</exception>
    public void RmsNormGradient(Tensor x, NormWeight norm, Tensor dy, NormGradients gradients)
    {
        int rows = (int)x.shape[0],
            width = (int)x.shape[1],
            threads = ThreadsFor(width / 8);
        if (width > 8 * threads)
            throw new NotSupportedException($"the gradient of norms knows up to 8,192 columns, found {width}");

        int blocks = Math.Min(rows, BlocksPerMultiprocessor * gpu.Multiprocessors);
        using var partial = Allocate([blocks, width], float32);
        gpu.Kernels.Get("RmsNormGradient", "rms_norm_gradient", Element(norm.Weight))
            .Launch(
                (blocks, 1),
                threads,
                0,
                x,
                norm.Weight,
                dy,
                gradients.X,
                gradients.Rounded,
                partial,
                rows,
                width,
                (float)norm.Epsilon
            );
        if (gradients.Weight is { } dWeight)
            AddParts(partial, 0, dWeight);
    }

    public void QueryKeyNorm(Tensor qkv, QueryKeyNormWeights norms, Tensor y) =>
        Rotation("query_key_norm", qkv, norms.Shape)
            .Launch(((int)qkv.shape[0], 1), 32 * NormWarps, 0, qkv, norms.Query, norms.Key, y, (float)norms.Epsilon);

    public void QueryKeyNormGradient(
        Tensor qkv,
        QueryKeyNormWeights norms,
        Tensor dy,
        Tensor dQkv,
        (Tensor? Query, Tensor? Key) dWeights
    )
    {
        int tokens = (int)qkv.shape[0],
            width = norms.Shape.HeadDimension,
            blocks = Math.Min(tokens, BlocksPerMultiprocessor * gpu.Multiprocessors);
        using var partial = Allocate([blocks, 2 * width], float32);
        Rotation("query_key_norm_gradient", qkv, norms.Shape)
            .Launch(
                (blocks, 1),
                32 * NormWarps,
                0,
                qkv,
                norms.Query,
                norms.Key,
                dy,
                dQkv,
                partial,
                tokens,
                (float)norms.Epsilon
            );
        if (dWeights.Query is { } dQuery)
            AddParts(partial, 0, dQuery);
        if (dWeights.Key is { } dKey)
            AddParts(partial, width, dKey);
    }

    public void Rotary(Tensor qkv, RotaryAngles angles, AttentionShape shape) => Rotate(qkv, angles, shape, 1);

    public void RotaryGradient(Tensor dQkv, RotaryAngles angles, AttentionShape shape) =>
        Rotate(dQkv, angles, shape, -1);

    private void Rotate(Tensor qkv, RotaryAngles angles, AttentionShape shape, float direction) =>
        Rotation("rotary", qkv, shape)
            .Launch(
                ((int)qkv.shape[0], 1),
                RotaryThreads,
                0,
                qkv,
                angles.Cosine,
                angles.Sine,
                angles.Positions,
                direction
            );

    private Kernel Rotation(string name, Tensor qkv, AttentionShape shape) =>
        gpu.Kernels.Get(
            "QueryKeyRotation",
            name,
            Element(qkv),
            $"HEAD_DIM={shape.HeadDimension}",
            $"HEADS={shape.Heads}",
            $"KV_HEADS={shape.KeyValueHeads}"
        );

    public void SwiGlu(Tensor gateUp, Tensor y)
    {
        int rows = (int)gateUp.shape[0],
            width = (int)gateUp.shape[1] / 2,
            threads = Math.Min(256, ThreadsFor(width / 8));
        gpu.Kernels.Get("SwiGlu", "swiglu", Element(gateUp))
            .Launch((rows, (width / 8 + threads - 1) / threads), threads, 0, gateUp, y, width);
    }

    public void SwiGluGradient(Tensor gateUp, Tensor dy, Tensor dGateUp, Tensor y)
    {
        int rows = (int)gateUp.shape[0],
            width = (int)gateUp.shape[1] / 2,
            threads = Math.Min(256, ThreadsFor(width / 8));
        gpu.Kernels.Get("SwiGluGradient", "swiglu_gradient", Element(gateUp))
            .Launch((rows, Groups(width / 8, threads)), threads, 0, gateUp, dy, dGateUp, y, width);
    }
}
