using System.Numerics.Tensors;
using SimpleR1.Tensors.Operands;

namespace SimpleR1.Tensors.Cpu.Attention;

/// <summary>
/// Causal softmax attention with grouped queries over segments packed one after another, without padding; forward
/// and backward (the tiling of Dao et al. 2022, "FlashAttention": probabilities exist for one tile of queries at a
/// time and are made again for the gradient). The rows of a segment also see its prefix.
/// </summary>
internal static unsafe class PackedAttentionKernel
{
    private const int QueriesPerTile = 32;

    /// <param name="qkv">[tokens, QkvRow]</param>
    /// <param name="output">[tokens, OutputRow]</param>
    /// <param name="logSum">[tokens, heads]: log Σ exp of each softmax, for the backward pass; may be null</param>
    public static void Forward(float* qkv, float* output, float* logSum, PackedSequences sequences)
    {
        int heads = sequences.Shape.KeyValueHeads;
        var result = new ForwardResult(output, logSum);
        CpuParallel.For(
            sequences.Segments.Length * heads,
            item => ForwardSegment(qkv, result, sequences, item / heads, item % heads)
        );
    }

    private static void ForwardSegment(
        float* qkv,
        ForwardResult result,
        PackedSequences sequences,
        int segment,
        int head
    )
    {
        var shape = sequences.Shape;
        var (first, length, _) = sequences.Segments[segment];
        var keys = new SeenKeys(sequences, segment);
        int d = shape.HeadDimension;
        nint row = shape.QkvRow;
        nint outputRow = shape.OutputRow;
        float* keysT = Scratch.Rent((long)(d + QueriesPerTile) * keys.Stride);
        float* scores = keysT + (long)d * keys.Stride;
        float* keyColumn = qkv + (shape.Heads + head) * d;
        keys.Transpose(keyColumn, keysT);

        for (int query = head * shape.Group; query < (head + 1) * shape.Group; query++)
        for (int tile = 0; tile < length; tile += QueriesPerTile)
        {
            // Scores of the tile's queries
            int rows = Math.Min(QueriesPerTile, length - tile);
            int seen = tile + rows;
            float* queries = qkv + (first + tile) * row + query * d;
            keys.Score(new(queries, row, rows), keysT, scores, seen);

            // Their weights. Causal: a token sees itself and what is before.
            for (int r = 0; r < rows; r++)
            {
                float* start = scores + (long)r * keys.Stride;
                var line = new Span<float>(start, keys.Before + tile + r + 1);
                float lineLogSum = Softmax(line, shape.Scale);
                new Span<float>(start + line.Length, keys.Before + seen - line.Length).Clear();
                if (result.LogSum != null)
                    result.LogSum[(first + tile + r) * shape.Heads + query] = lineLogSum;
            }

            float* output = result.Output + (first + tile) * outputRow + query * d;
            keys.Sum(scores, keyColumn + shape.KeyValueHeads * d, new(output, outputRow, rows), seen);
        }
    }

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

    /// <summary>
    /// Writes d qkv (which must be zeros) from d output, the forward's inputs, output and log-sums. One thread adds up
    /// all gradients of a prefix's keys, segment after segment: the same sums on any number of threads.
    /// </summary>
    public static void Backward(
        float* qkv,
        ForwardResult result,
        float* dOutput,
        float* dQkv,
        PackedSequences sequences
    )
    {
        int heads = sequences.Shape.KeyValueHeads;
        Range[] families = [.. sequences.Families()];
        CpuParallel.For(
            families.Length * heads,
            item =>
            {
                var family = families[item / heads];
                for (int segment = family.Start.Value; segment < family.End.Value; segment++)
                    new SegmentGradient(qkv, dQkv, sequences, segment, item % heads).Add(result, dOutput);
            }
        );
    }

    /// <summary>The gradient of one segment's rows for one head of keys and values.</summary>
    private readonly struct SegmentGradient(float* qkv, float* dQkv, PackedSequences sequences, int segment, int head)
    {
        public void Add(ForwardResult result, float* dOutput)
        {
            var shape = sequences.Shape;
            int d = shape.HeadDimension;
            var keys = new SeenKeys(sequences, segment);
            float* keysT = Scratch.Rent(2L * (d + QueriesPerTile) * keys.Stride);
            float* valuesT = keysT + (long)d * keys.Stride;
            nint keyColumn = (shape.Heads + head) * d;
            keys.Transpose(qkv + keyColumn, keysT);
            keys.Transpose(qkv + keyColumn + shape.KeyValueHeads * d, valuesT);

            int length = sequences.Segments[segment].Count;
            for (int query = head * shape.Group; query < (head + 1) * shape.Group; query++)
            for (int tile = 0; tile < length; tile += QueriesPerTile)
                AddTile(keys, keysT, new(result, dOutput), query, tile);
        }

        private void AddTile(SeenKeys keys, float* keysT, OutputGradient gradient, int query, int tile)
        {
            var shape = sequences.Shape;
            var (first, length, _) = sequences.Segments[segment];
            int d = shape.HeadDimension;
            int rows = Math.Min(QueriesPerTile, length - tile);
            int seen = tile + rows;
            long place = first + tile;
            float* valuesT = keysT + (long)d * keys.Stride;
            float* p = valuesT + (long)d * keys.Stride;
            float* ds = p + (long)QueriesPerTile * keys.Stride;
            var q = new SeenKeys.Rows(qkv + place * shape.QkvRow + query * d, shape.QkvRow, rows);
            float* dOutput = gradient.Output + place * shape.OutputRow + query * d;
            var dO = new SeenKeys.Rows(dOutput, shape.OutputRow, rows);

            // Weights, and gradients of scores
            keys.Score(q, keysT, p, seen);
            keys.Score(dO, valuesT, ds, seen);
            for (int r = 0; r < rows; r++)
            {
                long line = (long)r * keys.Stride;
                int count = keys.Before + tile + r + 1;
                ScoreGradient(new(p + line, count), new(ds + line, count), gradient, place + r, query);
                new Span<float>(p + line + count, keys.Before + seen - count).Clear();
                new Span<float>(ds + line + count, keys.Before + seen - count).Clear();
            }

            // Gradients of values, keys and queries
            nint keyColumn = (shape.Heads + head) * d;
            keys.AddGradient(p, dO, dQkv + keyColumn + shape.KeyValueHeads * d, seen);
            keys.AddGradient(ds, q, dQkv + keyColumn, seen);
            var dQ = new SeenKeys.Rows(dQkv + place * shape.QkvRow + query * d, shape.QkvRow, rows);
            keys.Sum(ds, qkv + keyColumn, dQ, seen);
        }

        /// <summary>Scores become weights, gradients of weights become gradients of scores.</summary>
        private void ScoreGradient(Span<float> p, Span<float> ds, OutputGradient gradient, long token, int query)
        {
            var shape = sequences.Shape;
            TensorPrimitives.Multiply(p, shape.Scale, p);
            TensorPrimitives.Subtract(p, gradient.Forward.LogSum[token * shape.Heads + query], p);
            TensorPrimitives.Exp<float>(p, p);

            // Σ p·dp
            long place = token * shape.OutputRow + query * shape.HeadDimension;
            float mean = TensorPrimitives.Dot<float>(
                new(gradient.Output + place, shape.HeadDimension),
                new(gradient.Forward.Output + place, shape.HeadDimension)
            );
            TensorPrimitives.Subtract(ds, mean, ds);
            TensorPrimitives.Multiply(ds, p, ds);
            TensorPrimitives.Multiply(ds, shape.Scale, ds);
        }
    }

    /// <summary>The same attention in plain loops and doubles: what <see cref="Forward"/> is tested against.</summary>
    public static void Reference(ReadOnlySpan<float> qkv, Span<float> output, PackedSequences sequences)
    {
        var (segments, shape) = sequences;
        int d = shape.HeadDimension;
        foreach (var segment in segments)
            for (int t = segment.First; t < segment.End; t++)
            for (int head = 0; head < shape.Heads; head++)
            {
                int keyColumn = (shape.Heads + head / shape.Group) * d,
                    valueColumn = keyColumn + shape.KeyValueHeads * d;
                var prefix = segment.Prefix < 0 ? default : segments[segment.Prefix];
                int[] seen =
                [
                    .. Enumerable.Range(prefix.First, prefix.Count),
                    .. Enumerable.Range(segment.First, t - segment.First + 1),
                ];
                var weights = new double[seen.Length];
                for (int j = 0; j < weights.Length; j++)
                for (int i = 0; i < d; i++)
                    weights[j] +=
                        (double)qkv[t * shape.QkvRow + head * d + i]
                        * qkv[seen[j] * shape.QkvRow + keyColumn + i]
                        / Math.Sqrt(d);
                double max = weights.Max(),
                    sum = weights.Sum(w => Math.Exp(w - max));
                for (int i = 0; i < d; i++)
                {
                    double mixed = 0;
                    for (int j = 0; j < weights.Length; j++)
                        mixed += Math.Exp(weights[j] - max) / sum * qkv[seen[j] * shape.QkvRow + valueColumn + i];
                    output[t * shape.OutputRow + head * d + i] = (float)mixed;
                }
            }
    }

    /// <summary>What the backward pass needs of <see cref="Forward"/>'s results.</summary>
    internal readonly struct ForwardResult(float* output, float* logSum)
    {
        public readonly float* Output = output;
        public readonly float* LogSum = logSum;
    }

    /// <summary>The gradient of the output, with the output.</summary>
    private readonly struct OutputGradient(ForwardResult forward, float* output)
    {
        public readonly ForwardResult Forward = forward;
        public readonly float* Output = output;
    }
}
