namespace SimpleR1.Models;

/// <summary>
/// One tensor inside the flat buffer. <paramref name="Offset"/> and <paramref name="Length"/> count elements.
/// </summary>
public sealed record WeightSlot(string Name, long[] Shape, long Offset, long Length)
{
    /// <summary>The weight of an RMS norm, which is 1 in a new model; other weights are drawn around 0.</summary>
    public bool IsNorm => Name.EndsWith("norm", StringComparison.Ordinal);
}

/// <summary>The slots of one layer, by what they hold; <see cref="LayerParameters"/> are their views.</summary>
public sealed record LayerSlots
{
    public required WeightSlot AttentionNorm { get; init; }
    public required WeightSlot Qkv { get; init; }

    /// <summary>Null in families without it, like the two norms below.</summary>
    public WeightSlot? QkvBias { get; init; }
    public WeightSlot? QueryNorm { get; init; }
    public WeightSlot? KeyNorm { get; init; }
    public required WeightSlot Output { get; init; }
    public required WeightSlot MlpNorm { get; init; }
    public required WeightSlot GateUp { get; init; }
    public required WeightSlot Down { get; init; }
}

/// <summary>
/// One Hugging Face tensor and where it lives: rows <paramref name="FirstRow"/> .. of slot <paramref name="Slot"/>.
/// Fusing (q, k, v into one matrix; gate, up into one) happens only here, when a checkpoint is read or written.
/// </summary>
public sealed record CheckpointTensor(string Name, long[] Shape, WeightSlot Slot, long FirstRow)
{
    /// <summary>Offset of its first element in the flat buffer.</summary>
    public long Offset => Slot.Offset + FirstRow * (Slot.Length / Slot.Shape[0]);
    public long Length => Shape.Aggregate(1L, (a, b) => a * b);
}
