using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Models;

/// <summary>
/// What a token may look at. The decoder is one definition; where keys and values live is the caller's:
/// in the packed batch itself (training), or in the paged cache (inference, which also writes the new ones).
/// </summary>
public interface IAttention
{
    /// <param name="tape">Where to record the gradient; null in inference.</param>
    /// <param name="layer">Layer, from 0.</param>
    /// <param name="qkv">[tokens, (heads + 2 × keyValueHeads) × headDimension], q and k already normalised and rotated.</param>
    /// <returns>[tokens, heads × headDimension]</returns>
    Tensor Attend(Tape? tape, int layer, Tensor qkv);
}

/// <summary>Each token sees itself and what is before it in its own sequence; sequences lie one after another, without padding.</summary>
/// <param name="offsets">First token of each sequence, then the number of tokens.</param>
public sealed class PackedAttention(ModelConfig config, int[] offsets) : IAttention
{
    public Tensor Attend(Tape? tape, int layer, Tensor qkv) =>
        Ops.PackedAttention(tape, qkv, offsets, config.Heads, config.KeyValueHeads, config.HeadDimension);
}
