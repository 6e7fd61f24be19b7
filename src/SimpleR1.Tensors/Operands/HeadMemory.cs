namespace SimpleR1.Tensors.Operands;

/// <summary>How many logits the output projection holds at a time.</summary>
/// <param name="Kept">
/// Bytes of logits that may stay alive between forward and backward; beyond, chunks of logits are made again.
/// </param>
/// <param name="PerChunk">Bytes of logits computed at a time.</param>
/// <param name="PerLoss">
/// Bytes of logits whose loss is taken at a time: where all of a micro-batch's would not fit, the loss of some sequences
/// is taken and their gradient computed before the logits of the next.
/// </param>
public readonly record struct HeadMemory(long Kept, long PerChunk, long PerLoss)
{
    /// <summary>Chunks that stay in a processor's cache while their log-probs are taken.</summary>
    public static HeadMemory Cpu { get; } = new(512L << 20, 64L << 20, long.MaxValue);

    /// <summary>Chunks so large that adding to the weight's gradient costs little beside the product.</summary>
    public static HeadMemory Gpu { get; } = OfBytes(4L << 30);

    /// <summary>At most this many bytes of logits, in one piece.</summary>
    public static HeadMemory OfBytes(long bytes) => new(bytes, bytes, bytes);

    /// <summary>Rows whose loss is taken at a time.</summary>
    public long RowsPerLoss(long vocabulary) => Math.Max(1, PerLoss / sizeof(float) / vocabulary);
}
