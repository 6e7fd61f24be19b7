namespace SimpleR1.Tensors.Cpu.Attention;

public static partial class PagedAttention
{
    /// <summary>
    /// The same in plain loops and doubles; it stores keys and values itself. What the kernel is tested against.
    /// </summary>
    public static void Reference(
        ReadOnlySpan<float> qkv,
        Span<float> keys,
        Span<float> values,
        Span<float> output,
        Batch batch
    )
    {
        var segments = batch.Segments;
        int[] tables = batch.Tables;
        var s = batch.Shape;
        int Block(Segment g, int position, int head) =>
            (tables[g.Table + position / s.BlockSize] * s.KeyValueHeads + head) * s.Dimension * s.BlockSize;
        foreach (var g in segments)
            for (int t = 0; t < g.Count; t++)
            for (int head = 0; head < s.KeyValueHeads; head++)
            for (int i = 0; i < s.Dimension; i++)
            {
                int row = (g.FirstRow + t) * s.QkvRow + (s.Heads + head) * s.Dimension + i,
                    slot = (g.Start + t) % s.BlockSize;
                keys[Block(g, g.Start + t, head) + i * s.BlockSize + slot] = qkv[row];
                values[Block(g, g.Start + t, head) + slot * s.Dimension + i] = qkv[row + s.KeyValueHeads * s.Dimension];
            }
        foreach (var g in segments)
            for (int t = 0; t < g.Count; t++)
            for (int head = 0; head < s.Heads; head++)
            {
                var weights = new double[g.Start + t + 1];
                for (int p = 0; p < weights.Length; p++)
                for (int i = 0; i < s.Dimension; i++)
                    weights[p] +=
                        (double)qkv[(g.FirstRow + t) * s.QkvRow + head * s.Dimension + i]
                        * keys[Block(g, p, head / s.Group) + i * s.BlockSize + p % s.BlockSize]
                        / Math.Sqrt(s.Dimension);
                double max = weights.Max(),
                    total = weights.Sum(w => Math.Exp(w - max));
                for (int i = 0; i < s.Dimension; i++)
                {
                    double mixed = 0;
                    for (int p = 0; p < weights.Length; p++)
                        mixed +=
                            Math.Exp(weights[p] - max)
                            / total
                            * values[Block(g, p, head / s.Group) + p % s.BlockSize * s.Dimension + i];
                    output[(g.FirstRow + t) * s.OutputRow + head * s.Dimension + i] = (float)mixed;
                }
            }
    }
}
