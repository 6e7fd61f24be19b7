using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Models;

/// <summary>
/// What a token may look at. The decoder is one definition; the caller decides where keys and values live: in the
/// packed batch itself (training), or in the paged cache (inference, which also writes the new ones).
/// </summary>
public interface IAttention
{
    /// <summary>Rotates q and k, and attends.</summary>
    /// <param name="tape">Where to record the gradient; null in inference.</param>
    /// <param name="layer">Layer, from 0.</param>
    /// <param name="qkv">[tokens, (heads + 2 × keyValueHeads) × headDimension]; may be overwritten.</param>
    /// <param name="rotation">What is done to q and k first.</param>
    /// <returns>[tokens, heads × headDimension]</returns>
    Tensor Attend(Tape? tape, int layer, Tensor qkv, QueryKeyRotation rotation);
}
