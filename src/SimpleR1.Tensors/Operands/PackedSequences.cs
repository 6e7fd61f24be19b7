namespace SimpleR1.Tensors.Operands;

/// <summary>Sequences that lie one after another, without padding.</summary>
/// <param name="Offsets">First token of each sequence, then the number of tokens.</param>
public readonly record struct PackedSequences(int[] Offsets, AttentionShape Shape);
