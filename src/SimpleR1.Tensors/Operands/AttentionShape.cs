namespace SimpleR1.Tensors.Operands;

/// <summary>
/// Sizes of attention. A qkv row is [heads | kvHeads | kvHeads] × headDimension; an output row is heads ×
/// headDimension.
/// </summary>
public readonly record struct AttentionShape(int Heads, int KeyValueHeads, int HeadDimension)
{
    /// <summary>Query heads that share a key and value head.</summary>
    public int Group => Heads / KeyValueHeads;
    public int QuerySize => Heads * HeadDimension;
    public int KeySize => KeyValueHeads * HeadDimension;
    public int QkvRow => QuerySize + 2 * KeySize;
    public int OutputRow => QuerySize;

    /// <summary>1 / √headDimension</summary>
    public float Scale => (float)(1 / Math.Sqrt(HeadDimension));
}
