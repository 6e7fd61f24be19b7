using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Models;

/// <summary>
/// What happens to the q and k heads before attention: Qwen3's norm of each head (where there are weights for it), then the rotary embedding.
/// Handed to the attention, because a GPU does it in one pass with the write into the cache.
/// </summary>
/// <param name="Positions">[tokens] int64</param>
/// <param name="Cosine">[positions, headDimension / 2] f32, like <paramref name="Sine"/></param>
/// <param name="QueryNorm">[headDimension] or null, like <paramref name="KeyNorm"/></param>
public sealed record QueryKeyRotation(
    ModelConfig Config,
    Tensor Positions,
    Tensor Cosine,
    Tensor Sine,
    Tensor? QueryNorm,
    Tensor? KeyNorm
)
{
    /// <summary>[tokens, (heads + 2 kvHeads) · d] → the same, normalised and rotated; may be done in place.</summary>
    public Tensor Apply(Tape? tape, Tensor qkv)
    {
        if (QueryNorm is not null)
            qkv = Ops.QueryKeyNorm(
                tape,
                qkv,
                QueryNorm,
                KeyNorm!,
                Config.Heads,
                Config.KeyValueHeads,
                Config.RmsNormEpsilon
            );
        return Ops.Rotary(
            tape,
            qkv,
            Positions,
            Cosine,
            Sine,
            Config.Heads + Config.KeyValueHeads,
            Config.HeadDimension
        );
    }
}

/// <summary>
/// What a token may look at. The decoder is one definition; where keys and values live is the caller's:
/// in the packed batch itself (training), or in the paged cache (inference, which also writes the new ones).
/// </summary>
public interface IAttention
{
    /// <param name="tape">Where to record the gradient; null in inference.</param>
    /// <param name="layer">Layer, from 0.</param>
    /// <param name="qkv">[tokens, (heads + 2 × keyValueHeads) × headDimension]; used up.</param>
    /// <param name="rotation">What is done to q and k first.</param>
    /// <returns>[tokens, heads × headDimension]</returns>
    Tensor Attend(Tape? tape, int layer, Tensor qkv, QueryKeyRotation rotation);
}

/// <summary>Each token sees itself and what is before it in its own sequence; sequences lie one after another, without padding.</summary>
/// <param name="offsets">First token of each sequence, then the number of tokens.</param>
public sealed class PackedAttention(ModelConfig config, int[] offsets) : IAttention
{
    public Tensor Attend(Tape? tape, int layer, Tensor qkv, QueryKeyRotation rotation) =>
        Ops.PackedAttention(
            tape,
            rotation.Apply(tape, qkv),
            offsets,
            config.Heads,
            config.KeyValueHeads,
            config.HeadDimension
        );
}
