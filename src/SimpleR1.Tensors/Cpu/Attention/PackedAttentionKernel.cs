using System.Numerics.Tensors;
using SimpleR1.Tensors.Cpu.Layers;
using SimpleR1.Tensors.Operands;

namespace SimpleR1.Tensors.Cpu.Attention;

/// <summary>
/// Causal softmax attention with grouped queries over sequences packed one after another, without padding; forward
/// and backward (the tiling of Dao et al. 2022, "FlashAttention": probabilities exist for one tile of queries at a
/// time and are made again for the gradient).
/// </summary>
internal static unsafe class PackedAttentionKernel
{
    private const int QueriesPerTile = 32;

    /// <param name="qkv">[tokens, QkvRow]</param>
    /// <param name="output">[tokens, OutputRow]</param>
    /// <param name="logSum">[tokens, heads]: log Σ exp of each softmax, for the backward pass; may be null</param>
    public static void Forward(float* qkv, float* output, float* logSum, PackedSequences sequences) =>
        EachSequenceAndHead(
            sequences,
            (first, length, head) =>
            {
                var shape = sequences.Shape;
                int d = shape.HeadDimension,
                    stride = RoundUp(length);
                nint row = shape.QkvRow,
                    outputRow = shape.OutputRow;
                float* keysT = Scratch.Rent((long)(d + QueriesPerTile) * stride),
                    scores = keysT + (long)d * stride;
                float* keys = qkv + first * row + (shape.Heads + head) * d,
                    values = keys + shape.KeyValueHeads * d;
                SmallProduct.Transpose(keys, row, keysT, stride, length, d);
                for (int query = head * shape.Group; query < (head + 1) * shape.Group; query++)
                for (int tile = 0; tile < length; tile += QueriesPerTile)
                {
                    int rows = Math.Min(QueriesPerTile, length - tile),
                        seen = tile + rows;
                    SmallProduct.Multiply(
                        qkv + (first + tile) * row + query * d,
                        row,
                        1,
                        keysT,
                        stride,
                        scores,
                        stride,
                        rows,
                        RoundUp(seen),
                        d,
                        add: false
                    );
                    for (int r = 0; r < rows; r++)
                    {
                        // Causal: a token sees itself and what is before.
                        var line = new Span<float>(scores + (long)r * stride, tile + r + 1);
                        float lineLogSum = Softmax(line, shape.Scale);
                        new Span<float>(scores + (long)r * stride + line.Length, seen - line.Length).Clear();
                        if (logSum != null)
                            logSum[(first + tile + r) * shape.Heads + query] = lineLogSum;
                    }
                    SmallProduct.Multiply(
                        scores,
                        stride,
                        1,
                        values,
                        row,
                        output + (first + tile) * outputRow + query * d,
                        outputRow,
                        rows,
                        d,
                        seen,
                        add: false
                    );
                }
            }
        );

    /// <summary>Scores become softmax(scale · scores).</summary>
    /// <returns>log Σ exp(scale · score)</returns>
    private static float Softmax(Span<float> line, float scale)
    {
        TensorPrimitives.Multiply(line, scale, line);
        float max = TensorPrimitives.Max<float>(line);
        TensorPrimitives.Subtract(line, max, line);
        TensorPrimitives.Exp<float>(line, line);
        float sum = TensorPrimitives.Sum<float>(line);
        TensorPrimitives.Multiply(line, 1 / sum, line);
        return max + MathF.Log(sum);
    }

    /// <summary>Writes d qkv (which must be zeros) from d output, the forward's inputs, output and log-sums.</summary>
    public static void Backward(
        float* qkv,
        ForwardResult result,
        float* dOutput,
        float* dQkv,
        PackedSequences sequences
    ) =>
        EachSequenceAndHead(
            sequences,
            (first, length, head) =>
            {
                var shape = sequences.Shape;
                float* output = result.Output,
                    logSum = result.LogSum;
                int d = shape.HeadDimension,
                    stride = RoundUp(length);
                nint row = shape.QkvRow,
                    outputRow = shape.OutputRow;
                float* keysT = Scratch.Rent(2L * (d + QueriesPerTile) * stride),
                    valuesT = keysT + (long)d * stride;
                float* p = valuesT + (long)d * stride,
                    ds = p + (long)QueriesPerTile * stride;
                nint keyColumn = (shape.Heads + head) * d,
                    valueColumn = keyColumn + shape.KeyValueHeads * d,
                    start = first * row;
                SmallProduct.Transpose(qkv + start + keyColumn, row, keysT, stride, length, d);
                SmallProduct.Transpose(qkv + start + valueColumn, row, valuesT, stride, length, d);
                for (int query = head * shape.Group; query < (head + 1) * shape.Group; query++)
                for (int tile = 0; tile < length; tile += QueriesPerTile)
                {
                    int rows = Math.Min(QueriesPerTile, length - tile),
                        seen = tile + rows;
                    float* q = qkv + (first + tile) * row + query * d;
                    float* o = output + (first + tile) * outputRow + query * d,
                        dO = dOutput + (first + tile) * outputRow + query * d;
                    SmallProduct.Multiply(q, row, 1, keysT, stride, p, stride, rows, RoundUp(seen), d, add: false);
                    SmallProduct.Multiply(
                        dO,
                        outputRow,
                        1,
                        valuesT,
                        stride,
                        ds,
                        stride,
                        rows,
                        RoundUp(seen),
                        d,
                        add: false
                    );
                    for (int r = 0; r < rows; r++)
                    {
                        Span<float> pLine = new(p + (long)r * stride, tile + r + 1),
                            dLine = new(ds + (long)r * stride, tile + r + 1);
                        TensorPrimitives.Multiply(pLine, shape.Scale, pLine);
                        TensorPrimitives.Subtract(pLine, logSum[(first + tile + r) * shape.Heads + query], pLine);
                        TensorPrimitives.Exp<float>(pLine, pLine);

                        // Σ p·dp.
                        float mean = TensorPrimitives.Dot<float>(new(dO + r * outputRow, d), new(o + r * outputRow, d));
                        TensorPrimitives.Subtract(dLine, mean, dLine);
                        TensorPrimitives.Multiply(dLine, pLine, dLine);
                        TensorPrimitives.Multiply(dLine, shape.Scale, dLine);
                        new Span<float>(p + (long)r * stride + pLine.Length, seen - pLine.Length).Clear();
                        new Span<float>(ds + (long)r * stride + dLine.Length, seen - dLine.Length).Clear();
                    }
                    SmallProduct.Multiply(
                        p,
                        1,
                        stride,
                        dO,
                        outputRow,
                        dQkv + start + valueColumn,
                        row,
                        seen,
                        d,
                        rows,
                        add: true
                    );
                    SmallProduct.Multiply(
                        ds,
                        1,
                        stride,
                        q,
                        row,
                        dQkv + start + keyColumn,
                        row,
                        seen,
                        d,
                        rows,
                        add: true
                    );
                    SmallProduct.Multiply(
                        ds,
                        stride,
                        1,
                        qkv + start + keyColumn,
                        row,
                        dQkv + (first + tile) * row + query * d,
                        row,
                        rows,
                        d,
                        seen,
                        add: false
                    );
                }
            }
        );

    /// <summary>The same attention in plain loops and doubles: what <see cref="Forward"/> is tested against.</summary>
    public static void Reference(ReadOnlySpan<float> qkv, Span<float> output, PackedSequences sequences)
    {
        var (offsets, shape) = sequences;
        int d = shape.HeadDimension;
        for (int s = 0; s + 1 < offsets.Length; s++)
        for (int t = offsets[s]; t < offsets[s + 1]; t++)
        for (int head = 0; head < shape.Heads; head++)
        {
            int keyColumn = (shape.Heads + head / shape.Group) * d,
                valueColumn = keyColumn + shape.KeyValueHeads * d;
            var weights = new double[t - offsets[s] + 1];
            for (int j = 0; j < weights.Length; j++)
            for (int i = 0; i < d; i++)
                weights[j] +=
                    (double)qkv[t * shape.QkvRow + head * d + i]
                    * qkv[(offsets[s] + j) * shape.QkvRow + keyColumn + i]
                    / Math.Sqrt(d);
            double max = weights.Max(),
                sum = weights.Sum(w => Math.Exp(w - max));
            for (int i = 0; i < d; i++)
            {
                double mixed = 0;
                for (int j = 0; j < weights.Length; j++)
                    mixed += Math.Exp(weights[j] - max) / sum * qkv[(offsets[s] + j) * shape.QkvRow + valueColumn + i];
                output[t * shape.OutputRow + head * d + i] = (float)mixed;
            }
        }
    }

    private static int RoundUp(int n) => (n + 15) / 16 * 16;

    private static void EachSequenceAndHead(PackedSequences sequences, Action<int, int, int> body)
    {
        var (offsets, shape) = sequences;
        CpuParallel.For(
            (offsets.Length - 1) * shape.KeyValueHeads,
            item =>
            {
                int sequence = item / shape.KeyValueHeads;
                body(offsets[sequence], offsets[sequence + 1] - offsets[sequence], item % shape.KeyValueHeads);
            }
        );
    }

    /// <summary>What the backward pass needs of <see cref="Forward"/>'s results.</summary>
    internal readonly struct ForwardResult(float* output, float* logSum)
    {
        public readonly float* Output = output;
        public readonly float* LogSum = logSum;
    }
}
