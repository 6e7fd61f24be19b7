using SimpleR1.Tensors.Cpu;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Operands;
using static TorchSharp.torch;

namespace SimpleR1.Tensors;

/// <summary>
/// What a device computes: every operation, forward and backward, over tensors that exist already. <see cref="Ops"/>
/// checks shapes, takes memory and records the tape; an implementation only computes. y is a result, dX the gradient
/// of X. Results are overwritten, except where "adds" is said. Shapes: t tokens, h hidden, v vocabulary, d head
/// dimension.
/// </summary>
internal interface IKernels
{
    /// <summary>The kernels of the device that a tensor's memory is on.</summary>
    static IKernels Of(Tensor tensor) => CudaDevice.Of(tensor)?.Operations ?? (IKernels)CpuKernels.Instance;

    /// <summary>The tensor has this shape (−1 is any size) and type, is contiguous and on this device.</summary>
    /// <exception cref="ArgumentException">The tensor differs; the message names what was expected and
    /// found.</exception>
    void Check(Tensor tensor, ReadOnlySpan<long> shape, ScalarType type, string name);

    /// <summary>The type of activations beside weights of a type: the weights' own on a GPU, f32 on a CPU.</summary>
    ScalarType Activations(ScalarType weights);

    /// <summary>
    /// Uninitialised memory for a result: libtorch's on a CPU, the current <see cref="ResultMemory"/>'s on a GPU.
    /// </summary>
    Tensor Allocate(long[] shape, ScalarType type);

    Tensor AllocateZeros(long[] shape, ScalarType type);

    void Copy(Tensor from, Tensor to);

    /// <summary>sum += x, where two gradients of one tensor meet.</summary>
    void Add(Tensor x, Tensor sum);

    /// <summary>table [v, h], ids [t] int64 → y [t, h].</summary>
    void Embedding(Tensor table, Tensor ids, Tensor y);

    /// <summary>Adds dy [t, h] to the rows of dTable [v, h].</summary>
    void EmbeddingGradient(Tensor ids, Tensor dy, Tensor dTable);

    /// <summary>
    /// y = x·Wᵀ + b: x [t, in], weight [out, in], bias [out] or null, y [t, out] of the activations' type or f32.
    /// </summary>
    void Linear(Tensor x, Tensor weight, Tensor? bias, Tensor y);

    /// <summary>dx = dy·W.</summary>
    void LinearInputGradient(Tensor dy, Tensor weight, Tensor dx);

    /// <summary>Adds dyᵀ·x to dWeight, which is f32.</summary>
    void LinearWeightGradient(Tensor dy, Tensor x, Tensor dWeight);

    /// <summary>Adds the sum over dy's rows to dBias.</summary>
    void LinearBiasGradient(Tensor dy, Tensor dBias);

    /// <summary>y = norm(x): [t, h].</summary>
    void RmsNorm(Tensor x, NormWeight norm, Tensor y);

    /// <summary>sum = x + delta, y = norm(sum): all [t, h].</summary>
    void AddRmsNorm(Tensor x, Tensor delta, NormWeight norm, Tensor sum, Tensor y);

    /// <summary>Adds to the gradients of x and of the weight; x is what was normalised.</summary>
    void RmsNormGradient(Tensor x, NormWeight norm, Tensor dy, NormGradients gradients);

    /// <summary>Normalises each q and k head of qkv [t, (heads + 2·kvHeads)·d] and copies the v heads.</summary>
    void QueryKeyNorm(Tensor qkv, QueryKeyNormWeights norms, Tensor y);

    /// <summary>Writes dQkv; adds to the weights' gradients where they are given.</summary>
    void QueryKeyNormGradient(
        Tensor qkv,
        QueryKeyNormWeights norms,
        Tensor dy,
        Tensor dQkv,
        (Tensor? Query, Tensor? Key) dWeights
    );

    /// <summary>Rotates the q and k heads of qkv in place.</summary>
    void Rotary(Tensor qkv, RotaryAngles angles, AttentionShape shape);

    /// <summary>
    /// The inverse rotation, in place: a gradient of rotated heads becomes the gradient of what was rotated.
    /// </summary>
    void RotaryGradient(Tensor dQkv, RotaryAngles angles, AttentionShape shape);

    /// <summary>Causal attention: qkv [t, (heads + 2·kvHeads)·d] → [t, heads·d].</summary>
    void PackedAttention(Tensor qkv, PackedSequences sequences, AttentionResult result);

    void PackedAttentionGradient(
        Tensor qkv,
        PackedSequences sequences,
        AttentionResult result,
        Tensor dOutput,
        Tensor dQkv
    );

    /// <summary>y = silu(gate)·up: gateUp [t, 2·i] → [t, i].</summary>
    void SwiGlu(Tensor gateUp, Tensor y);

    /// <summary>Writes dGateUp, which may be gateUp, and makes y again.</summary>
    void SwiGluGradient(Tensor gateUp, Tensor dy, Tensor dGateUp, Tensor y);

    /// <summary>
    /// y = silu(x·gateᵀ)·(x·upᵀ), without what the gradient would need: x [t, h], weight [2·i, h] → [t, i].
    /// </summary>
    void GatedLinear(Tensor x, Tensor weight, Tensor y);

    /// <summary>Chosen rows: x [t, h], indices [r] int64 → y [r, h].</summary>
    void SelectRows(Tensor x, Tensor indices, Tensor y);

    /// <summary>Adds dy [r, h] to the chosen rows of dx [t, h].</summary>
    void SelectRowsGradient(Tensor indices, Tensor dy, Tensor dx);

    /// <summary>
    /// logits [r, v] f32 → log-prob of the chosen token, log-sum and entropy of each row.
    /// </summary>
    void LogProbs(Tensor logits, TokenChoice choice, TokenDistribution result);

    /// <summary>Replaces logits by their gradient: dLogProbs [r] · (1[chosen] − p) / temperature.</summary>
    /// <param name="type">Of the gradient.</param>
    /// <returns>The gradient [r, v] in the memory of the logits, which must live as long.</returns>
    Tensor LogProbsGradient(Tensor logits, TokenChoice choice, Tensor logSum, Tensor dLogProbs, ScalarType type);

    /// <summary>One update of <paramref name="length"/> elements from <paramref name="first"/> on.</summary>
    void AdamW(AdamWBuffers buffers, long first, long length, AdamWSettings settings);

    /// <summary>Σx² of a flat f32 buffer, with the same bits on any number of threads.</summary>
    double SumOfSquares(Tensor x);
}
