using static TorchSharp.torch;

namespace SimpleR1.Models;

/// <summary>
/// What a token may look at. The decoder is one definition; where keys and values live is the caller's:
/// in the packed batch itself (training), or in the paged cache (inference, which also writes the new ones).
/// </summary>
public interface IAttention
{
    /// <param name="layer">Layer, from 0.</param>
    /// <param name="qkv">[tokens, (heads + 2 × keyValueHeads) × headDimension], q and k already normalised and rotated.</param>
    /// <returns>[tokens, heads × headDimension]</returns>
    Tensor Attend(int layer, Tensor qkv);
}
