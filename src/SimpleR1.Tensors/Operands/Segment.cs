namespace SimpleR1.Tensors.Operands;

/// <summary>
/// Tokens of a packed batch that follow each other. Each sees the tokens before it in its segment, and first all those
/// of the prefix.
/// </summary>
/// <param name="First">Place of its first token in the batch.</param>
/// <param name="Count">Its tokens, at least 1.</param>
/// <param name="Prefix">
/// Index of the segment that all its tokens see first; −1 for none. A prefix has no prefix, and those who see it come
/// directly after it, so that the rows that see its keys follow each other.
/// </param>
public readonly record struct Segment(int First, int Count, int Prefix = -1)
{
    /// <summary>The place after its last token.</summary>
    public int End => First + Count;
}
