using SimpleR1.Tensors.Cpu.Layers;
using SimpleR1.Tensors.Operands;

namespace SimpleR1.Tensors.Cpu.Attention;

/// <summary>
/// The keys and values of one head that a segment's rows see: those of its prefix, then its own. They are numbered
/// through; a row of weights has <see cref="Stride"/> places for them.
/// </summary>
internal readonly unsafe struct SeenKeys
{
    private readonly AttentionShape shape;
    private readonly Segment own;
    private readonly Segment prefix; // of no tokens without one

    public SeenKeys(PackedSequences sequences, int segment)
    {
        shape = sequences.Shape;
        own = sequences.Segments[segment];
        prefix = own.Prefix < 0 ? default : sequences.Segments[own.Prefix];
        Stride = RoundUp(prefix.Count + own.Count);
    }

    /// <summary>All keys, rounded up to whole vectors.</summary>
    public int Stride { get; }

    /// <summary>Keys before the segment's own.</summary>
    public int Before => prefix.Count;

    /// <summary>[all keys, d] → [d, Stride]; what is beyond the keys becomes 0.</summary>
    /// <param name="column">The first token's head of keys or values.</param>
    public void Transpose(float* column, float* to)
    {
        nint row = shape.QkvRow;
        float* before = column + prefix.First * row;
        float* after = column + own.First * row;
        for (int p = 0; p < shape.HeadDimension; p++, to += Stride)
        {
            for (int i = 0; i < prefix.Count; i++)
                to[i] = before[i * row + p];
            for (int i = 0; i < own.Count; i++)
                to[prefix.Count + i] = after[i * row + p];
            for (int i = prefix.Count + own.Count; i < Stride; i++)
                to[i] = 0;
        }
    }

    /// <summary>Products of rows with what <see cref="Transpose"/> made: [rows, d] · [d, seen] → [rows, Stride].</summary>
    /// <param name="seen">Of the segment's own keys, those that a row sees.</param>
    public void Score(Rows rows, float* transposed, float* to, int seen) =>
        SmallProduct.Multiply(
            rows.Start,
            rows.Stride,
            1,
            transposed,
            Stride,
            to,
            Stride,
            rows.Count,
            RoundUp(prefix.Count + seen),
            shape.HeadDimension,
            add: false
        );

    /// <summary>Sums of keys or values, with a row of weights for each sum: [rows, seen] · [seen, d] → [rows, d].</summary>
    /// <inheritdoc cref="Score"/>
    public void Sum(float* weights, float* column, Rows result, int seen)
    {
        nint row = shape.QkvRow;
        int d = shape.HeadDimension;
        if (prefix.Count > 0)
            SmallProduct.Multiply(
                weights,
                Stride,
                1,
                column + prefix.First * row,
                row,
                result.Start,
                result.Stride,
                result.Count,
                d,
                prefix.Count,
                add: false
            );
        SmallProduct.Multiply(
            weights + prefix.Count,
            Stride,
            1,
            column + own.First * row,
            row,
            result.Start,
            result.Stride,
            result.Count,
            d,
            seen,
            add: prefix.Count > 0
        );
    }

    /// <summary>Adds to the keys' or values' gradients what each row adds: [rows, seen]ᵀ · [rows, d] → [seen, d].</summary>
    /// <inheritdoc cref="Score"/>
    public void AddGradient(float* weights, Rows rows, float* column, int seen)
    {
        Add(weights, rows, column, prefix.First, prefix.Count);
        Add(weights + prefix.Count, rows, column, own.First, seen);
    }

    private void Add(float* weights, Rows rows, float* column, int first, int count) =>
        SmallProduct.Multiply(
            weights,
            1,
            Stride,
            rows.Start,
            rows.Stride,
            column + (nint)first * shape.QkvRow,
            shape.QkvRow,
            count,
            shape.HeadDimension,
            rows.Count,
            add: true
        );

    private static int RoundUp(int n) => (n + 15) / 16 * 16;

    /// <summary>Rows of a matrix in memory.</summary>
    public readonly struct Rows(float* start, nint stride, int count)
    {
        public readonly float* Start = start;
        public readonly nint Stride = stride;
        public readonly int Count = count;
    }
}
