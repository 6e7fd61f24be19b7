using SimpleR1.Tensors.Operands;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// The decoder's operations on a GPU. Weights and activations are bf16, f16 or f32; the residual stream is f32.
/// Results lie in the current <see cref="Arena"/>. What has no kernel yet throws and names itself; CpuKernels is the
/// reference for a new one.
/// </summary>
internal sealed class CudaKernels(CudaDevice gpu) : IKernels
{
    private const int SmallRows = 4; // up to here our own product is faster than cuBLAS's; see SmallLinear.cu
    private const int SmallWarps = 4,
        ManyOutputs = 4096,
        ManyInputs = 2048;

    public void Check(Tensor tensor, ReadOnlySpan<long> shape, ScalarType type, string name) =>
        Require.On(gpu, tensor, shape, type, name);

    public Tensor Allocate(long[] shape, ScalarType type) => Arena.CurrentOf(gpu).Take(shape, type);

    public Tensor AllocateZeros(long[] shape, ScalarType type)
    {
        var tensor = Allocate(shape, type);
        gpu.Fill(Aten.DataPointer(tensor), 0, tensor.numel() * type.ElementSize());
        return tensor;
    }

    public void Copy(Tensor from, Tensor to) =>
        gpu.CopyWithin(Aten.DataPointer(from), Aten.DataPointer(to), from.numel() * from.dtype.ElementSize());

    public void Add(Tensor x, Tensor sum) => throw Missing("the sum of two gradients");

    /// <remarks>A row of zeros for an id below 0, which is padding; ids are on the device and not checked.</remarks>
    public void Embedding(Tensor table, Tensor ids, Tensor y)
    {
        int width = (int)table.shape[1];
        gpu.Kernels.Get("Embedding", "embedding", Element(table))
            .Launch(((int)ids.shape[0], 1), ThreadsFor(width / 8), 0, y, table, ids, width);
    }

    public void EmbeddingGradient(Tensor ids, Tensor dy, Tensor dTable) => throw MissingGradient(nameof(Embedding));

    public void Linear(Tensor x, Tensor weight, Tensor? bias, Tensor y)
    {
        if (x.shape[0] <= SmallRows)
            SmallLinear(x, weight, bias, y);
        else if (gpu.Profile is null)
            gpu.Blas.Linear(x, weight, bias, y);
        else
            ProfiledLinear(gpu.Profile, x, weight, bias, y);
    }

    private void SmallLinear(Tensor x, Tensor weight, Tensor? bias, Tensor y)
    {
        int rows = (int)x.shape[0],
            outputs = (int)weight.shape[0],
            inputs = (int)weight.shape[1];
        string mostRows = rows <= 2 ? $"{rows}" : "4";
        bool wide = y.dtype != weight.dtype;

        // Few outputs: a warp each, or even a block each, so that enough loads are in flight.
        int perWarp = wide || outputs >= ManyOutputs ? 4 : 1;
        if (perWarp == 1 && inputs >= ManyInputs)
        {
            gpu.Kernels.Get("SmallLinear", $"small_linear_{mostRows}_split", Element(weight))
                .Launch((outputs, 1), 32 * SmallWarps, 0, x, weight, bias, y, rows, outputs, inputs);
            return;
        }

        string name = wide ? $"small_linear_to_float_{mostRows}" : $"small_linear_{mostRows}_{perWarp}";
        int blocks = (outputs + perWarp * SmallWarps - 1) / (perWarp * SmallWarps);
        gpu.Kernels.Get("SmallLinear", name, Element(weight))
            .Launch((blocks, 1), 32 * SmallWarps, 0, x, weight, bias, y, rows, outputs, inputs);
    }

    /// <summary>A separate method, because its lambda would otherwise be allocated for every product.</summary>
    private void ProfiledLinear(KernelProfile profile, Tensor x, Tensor weight, Tensor? bias, Tensor y) =>
        profile.Measure(
            $"product with [{weight.shape[0]}, {weight.shape[1]}]",
            () => gpu.Blas.Linear(x, weight, bias, y)
        );

    public void LinearInputGradient(Tensor dy, Tensor weight, Tensor dx) => throw MissingGradient(nameof(Linear));

    public void LinearWeightGradient(Tensor dy, Tensor x, Tensor dWeight) => throw MissingGradient(nameof(Linear));

    public void LinearBiasGradient(Tensor dy, Tensor dBias) => throw MissingGradient(nameof(Linear));

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

    public void RmsNormGradient(Tensor x, NormWeight norm, Tensor dy, Tensor dx, Tensor? dWeight) =>
        throw MissingGradient(nameof(RmsNorm));

    public void QueryKeyNorm(Tensor qkv, QueryKeyNormWeights norms, Tensor y) => throw Missing(nameof(QueryKeyNorm));

    public void QueryKeyNormGradient(
        Tensor qkv,
        QueryKeyNormWeights norms,
        Tensor dy,
        Tensor dQkv,
        (Tensor? Query, Tensor? Key) dWeights
    ) => throw MissingGradient(nameof(QueryKeyNorm));

    public void Rotary(Tensor qkv, RotaryAngles angles, AttentionShape shape) => throw Missing(nameof(Rotary));

    public void RotaryGradient(Tensor dQkv, RotaryAngles angles, AttentionShape shape) =>
        throw MissingGradient(nameof(Rotary));

    public void PackedAttention(Tensor qkv, PackedSequences sequences, AttentionResult result) =>
        throw Missing(nameof(PackedAttention));

    public void PackedAttentionGradient(
        Tensor qkv,
        PackedSequences sequences,
        AttentionResult result,
        Tensor dOutput,
        Tensor dQkv
    ) => throw MissingGradient(nameof(PackedAttention));

    public void SwiGlu(Tensor gateUp, Tensor y)
    {
        int rows = (int)gateUp.shape[0],
            width = (int)gateUp.shape[1] / 2,
            threads = Math.Min(256, ThreadsFor(width / 8));
        gpu.Kernels.Get("SwiGlu", "swiglu", Element(gateUp))
            .Launch((rows, (width / 8 + threads - 1) / threads), threads, 0, gateUp, y, width);
    }

    public void SwiGluGradient(Tensor gateUp, Tensor dy, Tensor dGateUp) => throw MissingGradient(nameof(SwiGlu));

    /// <summary>One kernel for few rows; else a product and <see cref="SwiGlu"/>.</summary>
    public void GatedLinear(Tensor x, Tensor weight, Tensor y)
    {
        int rows = (int)x.shape[0],
            width = (int)weight.shape[0] / 2,
            inputs = (int)weight.shape[1];
        if (rows > SmallRows)
        {
            var gateUp = Allocate([rows, weight.shape[0]], weight.dtype); // [t, 2·i]
            Linear(x, weight, null, gateUp);
            SwiGlu(gateUp, y);
            return;
        }

        string name = rows <= 2 ? $"small_gated_{rows}" : "small_gated_4";
        int blocks = (width + 2 * SmallWarps - 1) / (2 * SmallWarps);
        gpu.Kernels.Get("SmallLinear", name, Element(weight))
            .Launch((blocks, 1), 32 * SmallWarps, 0, x, weight, y, rows, width, inputs);
    }

    public void SelectRows(Tensor x, Tensor indices, Tensor y)
    {
        int width = (int)x.shape[1];
        gpu.Kernels.Get("SelectRows", "select_rows", Element(x))
            .Launch(((int)indices.shape[0], 1), ThreadsFor(width / 8), 0, x, y, indices, width);
    }

    public void SelectRowsGradient(Tensor indices, Tensor dy, Tensor dx) => throw MissingGradient(nameof(SelectRows));

    public void LogProbs(Tensor logits, Tensor chosen, double temperature, TokenDistribution result) =>
        throw Missing(nameof(LogProbs));

    public void LogProbsGradient(Tensor logits, Tensor chosen, double temperature, Tensor logSum, Tensor dLogProbs) =>
        throw MissingGradient(nameof(LogProbs));

    public void AdamW(AdamWBuffers buffers, long first, long length, AdamWSettings settings) =>
        throw Missing(nameof(AdamW));

    public double SumOfSquares(Tensor x) => throw Missing(nameof(SumOfSquares));

    private static string Element(Tensor tensor) => ElementType.Of(tensor.dtype).Definition();

    /// <summary>Whole warps, as many as have work, 1,024 at most.</summary>
    private static int ThreadsFor(int items) => Math.Clamp((items + 31) / 32 * 32, 32, 1024);

    private static NotSupportedException Missing(string operation) =>
        new($"{operation} has no CUDA kernel yet; train with weights on the CPU");

    private static NotSupportedException MissingGradient(string operation) => Missing($"the gradient of {operation}");
}
