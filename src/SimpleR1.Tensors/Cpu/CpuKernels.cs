using SimpleR1.Tensors.Cpu.Attention;
using SimpleR1.Tensors.Cpu.Layers;
using SimpleR1.Tensors.Operands;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cpu;

/// <summary>
/// The decoder's operations on a CPU: activations in f32, weights also in bf16 or f16, which are widened as they are read;
/// each sum in one fixed order, whatever the number of threads.
/// </summary>
internal sealed unsafe class CpuKernels : IKernels
{
    private const int RowsPerItem = 16;

    private CpuKernels() { }

    public static CpuKernels Instance { get; } = new();

    public void Check(Tensor tensor, ReadOnlySpan<long> shape, ScalarType type, string name)
    {
        if (type == ScalarType.Int64)
            Require.Integers(tensor, shape, name);
        else if (type == ScalarType.Float32)
            Require.Floats(tensor, shape, name);
        else
            Require.Halves(tensor, shape, type, name);
    }

    public ScalarType Activations(ScalarType weights) => ScalarType.Float32;

    public Tensor Allocate(long[] shape, ScalarType type) => empty(shape, dtype: type);

    public Tensor AllocateZeros(long[] shape, ScalarType type) => zeros(shape, dtype: type);

    public void Copy(Tensor from, Tensor to) => to.copy_(from);

    public void Add(Tensor x, Tensor sum) => sum.add_(x, Ops.One);

    /// <exception cref="ArgumentOutOfRangeException">An id is outside the table.</exception>
    public void Embedding(Tensor table, Tensor ids, Tensor y)
    {
        long rows = table.shape[0];
        foreach (long id in Integers(ids))
            if ((ulong)id >= (ulong)rows)
                throw new ArgumentOutOfRangeException(
                    nameof(ids),
                    $"token id {id} is outside the vocabulary of {rows}"
                );
        Gather(table, ids, y);
    }

    public void EmbeddingGradient(Tensor ids, Tensor dy, Tensor dTable) => dTable.index_add_(0, ids, dy, Ops.One);

    public void Linear(Tensor x, Tensor weight, Tensor? bias, Tensor y)
    {
        byte* w = (byte*)Aten.DataPointer(weight);
        float* b = bias is null ? null : WidenedVector.Of(bias);
        var shape = Product(x, weight);
        switch (weight.dtype)
        {
            case ScalarType.Float32:
                Layers.Linear.Forward<F32Numbers>(Floats(x), w, b, Floats(y), shape);
                break;
            case ScalarType.BFloat16:
                Layers.Linear.Forward<BF16Numbers>(Floats(x), w, b, Floats(y), shape);
                break;
            default:
                Layers.Linear.Forward<F16Numbers>(Floats(x), w, b, Floats(y), shape);
                break;
        }
    }

    /// <exception cref="NotSupportedException">The weights are not f32: a CPU trains no others.</exception>
    public void LinearInputGradient(Tensor dy, Tensor weight, Tensor dx) =>
        LinearGradient.Input(Floats(dy), Trained(weight), Floats(dx), Product(dy, weight));

    public void LinearWeightGradient(Tensor dy, Tensor x, Tensor dWeight) =>
        LinearGradient.Weight(Floats(dy), Floats(x), Floats(dWeight), Product(dy, dWeight));

    public void LinearBiasGradient(Tensor dy, Tensor dBias)
    {
        using var sum = dy.sum([0L]);
        dBias.add_(sum, Ops.One);
    }

    public void RmsNorm(Tensor x, NormWeight norm, Tensor y) =>
        Layers.RmsNorm.Forward(Floats(x), default, WidenedVector.Of(norm.Weight), Floats(y), NormShape(x, norm));

    public void AddRmsNorm(Tensor x, Tensor delta, NormWeight norm, Tensor sum, Tensor y) =>
        Layers.RmsNorm.Forward(
            Floats(x),
            new(Floats(delta), Floats(sum)),
            WidenedVector.Of(norm.Weight),
            Floats(y),
            NormShape(x, norm)
        );

    public void RmsNormGradient(Tensor x, NormWeight norm, Tensor dy, NormGradients gradients)
    {
        var shape = NormShape(x, norm);
        Layers.RmsNorm.InputGradient(Floats(x), Trained(norm.Weight), Floats(dy), Floats(gradients.X), shape);
        gradients.Rounded?.copy_(gradients.X);
        if (gradients.Weight is { } dWeight)
            Layers.RmsNorm.WeightGradient(Floats(x), Floats(dy), Floats(dWeight), shape);
    }

    public void QueryKeyNorm(Tensor qkv, QueryKeyNormWeights norms, Tensor y)
    {
        using var scope = NewDisposeScope();
        var shape = norms.Shape;
        NormHeads(0, shape.QuerySize, norms.Query);
        NormHeads(shape.QuerySize, shape.KeySize, norms.Key);
        int rotated = shape.QuerySize + shape.KeySize;
        y.narrow(1, rotated, shape.KeySize).copy_(qkv.narrow(1, rotated, shape.KeySize));

        void NormHeads(long first, long size, Tensor weight)
        {
            var heads = Heads(qkv, first, size, shape.HeadDimension);
            var normed = empty_like(heads);
            RmsNorm(heads, new(weight, norms.Epsilon), normed);
            y.narrow(1, first, size).copy_(normed.view(-1, size));
        }
    }

    public void QueryKeyNormGradient(
        Tensor qkv,
        QueryKeyNormWeights norms,
        Tensor dy,
        Tensor dQkv,
        (Tensor? Query, Tensor? Key) dWeights
    )
    {
        using var scope = NewDisposeScope();
        var shape = norms.Shape;
        NormHeadsGradient(0, shape.QuerySize, norms.Query, dWeights.Query);
        NormHeadsGradient(shape.QuerySize, shape.KeySize, norms.Key, dWeights.Key);
        int rotated = shape.QuerySize + shape.KeySize;
        dQkv.narrow(1, rotated, shape.KeySize).copy_(dy.narrow(1, rotated, shape.KeySize));

        void NormHeadsGradient(long first, long size, Tensor weight, Tensor? dWeight)
        {
            var heads = Heads(qkv, first, size, shape.HeadDimension);
            var dx = zeros_like(heads);
            RmsNormGradient(
                heads,
                new(weight, norms.Epsilon),
                Heads(dy, first, size, shape.HeadDimension),
                new(dx, null, dWeight)
            );
            dQkv.narrow(1, first, size).copy_(dx.view(-1, size));
        }
    }

    /// <summary>A copy of some columns of a qkv row, one head a row.</summary>
    private static Tensor Heads(Tensor qkv, long first, long size, int headDimension) =>
        qkv.narrow(1, first, size).contiguous().view(-1, headDimension);

    /// <exception cref="ArgumentOutOfRangeException">A position is outside the tables.</exception>
    public void Rotary(Tensor qkv, RotaryAngles angles, AttentionShape shape)
    {
        long limit = angles.Cosine.shape[0];
        foreach (long position in Integers(angles.Positions))
            if ((ulong)position >= (ulong)limit)
                throw new ArgumentOutOfRangeException(
                    nameof(angles),
                    $"position {position} is outside the model's context of {limit}"
                );
        Rotate(qkv, angles, shape, 1);
    }

    public void RotaryGradient(Tensor dQkv, RotaryAngles angles, AttentionShape shape) =>
        Rotate(dQkv, angles, shape, -1);

    private static void Rotate(Tensor qkv, RotaryAngles angles, AttentionShape shape, float direction) =>
        Layers.Rotary.Rotate(
            Floats(qkv),
            new(Longs(angles.Positions), Floats(angles.Cosine), Floats(angles.Sine)),
            new(Length(qkv, 0), shape.Heads + shape.KeyValueHeads, shape.HeadDimension, Length(qkv, 1)),
            direction
        );

    public void PackedAttention(Tensor qkv, PackedSequences sequences, AttentionResult result) =>
        PackedAttentionKernel.Forward(Floats(qkv), Floats(result.Output), FloatsOrNull(result.LogSum), sequences);

    public void PackedAttentionGradient(
        Tensor qkv,
        PackedSequences sequences,
        AttentionResult result,
        Tensor dOutput,
        Tensor dQkv
    )
    {
        dQkv.zero_();
        PackedAttentionKernel.Backward(
            Floats(qkv),
            new(Floats(result.Output), Floats(result.LogSum!)),
            Floats(dOutput),
            Floats(dQkv),
            sequences
        );
    }

    public void SwiGlu(Tensor gateUp, Tensor y) =>
        Layers.SwiGlu.Forward(Floats(gateUp), Floats(y), Length(gateUp, 0), Length(gateUp, 1) / 2);

    public void SwiGluGradient(Tensor gateUp, Tensor dy, Tensor dGateUp, Tensor y)
    {
        SwiGlu(gateUp, y);
        Layers.SwiGlu.Backward(Floats(gateUp), Floats(dy), Floats(dGateUp), Length(gateUp, 0), Length(gateUp, 1) / 2);
    }

    public void GatedLinear(Tensor x, Tensor weight, Tensor y)
    {
        using var gateUp = empty(x.shape[0], weight.shape[0], dtype: float32); // [t, 2·i]
        Linear(x, weight, null, gateUp);
        SwiGlu(gateUp, y);
    }

    /// <exception cref="ArgumentOutOfRangeException">An index is outside x.</exception>
    public void SelectRows(Tensor x, Tensor indices, Tensor y)
    {
        long rows = x.shape[0];
        foreach (long index in Integers(indices))
            if ((ulong)index >= (ulong)rows)
                throw new ArgumentOutOfRangeException(nameof(indices), $"row {index} is outside the tensor of {rows}");
        Gather(x, indices, y);
    }

    public void SelectRowsGradient(Tensor indices, Tensor dy, Tensor dx) => dx.index_add_(0, indices, dy, Ops.One);

    /// <exception cref="ArgumentOutOfRangeException">A chosen token is outside the vocabulary.</exception>
    public void LogProbs(Tensor logits, TokenChoice choice, TokenDistribution result)
    {
        long vocabulary = logits.shape[1];
        foreach (long id in Integers(choice.Tokens))
            if ((ulong)id >= (ulong)vocabulary)
                throw new ArgumentOutOfRangeException(
                    nameof(choice),
                    $"token id {id} is outside the vocabulary of {vocabulary}"
                );
        Layers.LogProbs.Forward(
            Floats(logits),
            Longs(choice.Tokens),
            new(Floats(result.LogProbs), Floats(result.LogSum), Floats(result.Entropy)),
            new(Length(logits, 0), (int)vocabulary, (float)choice.Temperature)
        );
    }

    public Tensor LogProbsGradient(Tensor logits, TokenChoice choice, Tensor logSum, Tensor dLogProbs, ScalarType type)
    {
        Layers.LogProbs.Backward(
            Floats(logits),
            Longs(choice.Tokens),
            Floats(logSum),
            Floats(dLogProbs),
            new(Length(logits, 0), Length(logits, 1), (float)choice.Temperature)
        );
        return logits;
    }

    public void AdamW(AdamWBuffers buffers, long first, long length, AdamWSettings settings) =>
        Cpu.AdamW.Step(
            new(
                Floats(buffers.Weight) + first,
                Floats(buffers.Gradient) + first,
                Floats(buffers.Mean) + first,
                Floats(buffers.Variance) + first
            ),
            length,
            settings
        );

    public double SumOfSquares(Tensor x) => Cpu.AdamW.SumOfSquares(Floats(x), x.shape[0]);

    /// <summary>y's rows are the rows of x with these indices, all of which exist.</summary>
    private static void Gather(Tensor x, Tensor indices, Tensor y)
    {
        byte* from = (byte*)Aten.DataPointer(x);
        float* to = Floats(y);
        long* rows = Longs(indices);
        long width = x.shape[1];
        var type = x.dtype;
        int count = Length(indices, 0);
        CpuParallel.For(
            (count + RowsPerItem - 1) / RowsPerItem,
            item =>
            {
                for (long row = item * RowsPerItem; row < Math.Min(count, (item + 1) * RowsPerItem); row++)
                    StoredNumbers.Widen(from, type, rows[row] * width, width, to + row * width);
            }
        );
    }

    private static ProductShape Product(Tensor rows, Tensor weight) =>
        new(Length(rows, 0), Length(weight, 0), Length(weight, 1));

    private static Layers.RmsNorm.Shape NormShape(Tensor x, NormWeight norm) =>
        new(Length(x, 0), Length(x, 1), norm.Epsilon);

    private static int Length(Tensor tensor, int dimension) => (int)tensor.shape[dimension];

    private static long* Longs(Tensor tensor) => (long*)Aten.DataPointer(tensor);

    private static ReadOnlySpan<long> Integers(Tensor tensor) => new(Longs(tensor), Length(tensor, 0));

    private static float* Floats(Tensor tensor) => (float*)Aten.DataPointer(tensor);

    private static float* Trained(Tensor weight) =>
        weight.dtype == ScalarType.Float32
            ? Floats(weight)
            : throw new NotSupportedException($"a CPU trains f32 weights; these are {weight.dtype}");

    private static float* FloatsOrNull(Tensor? tensor) => tensor is null ? null : Floats(tensor);
}
