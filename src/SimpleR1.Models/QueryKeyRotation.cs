using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Models;

/// <summary>
/// What happens to the q and k heads before attention: the norm of each head (in families that have it), then the
/// rotary embedding. The attention applies it, because a GPU does it in one pass with the write into the cache.
/// </summary>
public sealed record QueryKeyRotation
{
    public required ModelConfig Config { get; init; }

    /// <summary>[tokens] int64, each token's position in its own sequence</summary>
    public required Tensor Positions { get; init; }

    /// <summary>[positions, headDimension / 2] f32</summary>
    public required Tensor Cosine { get; init; }

    /// <summary>[positions, headDimension / 2] f32</summary>
    public required Tensor Sine { get; init; }

    /// <summary>[headDimension], or null in families without it; like <see cref="KeyNorm"/>.</summary>
    public Tensor? QueryNorm { get; init; }

    /// <inheritdoc cref="QueryNorm"/>
    public Tensor? KeyNorm { get; init; }

    /// <summary>[tokens, (heads + 2 kvHeads) · d] → the same, normalised and rotated; may be done in place.</summary>
    public Tensor Apply(Tape? tape, Tensor qkv)
    {
        var shape = Config.AttentionShape;
        if (QueryNorm is not null)
            qkv = Ops.QueryKeyNorm(tape, qkv, new(QueryNorm, KeyNorm!, Config.RmsNormEpsilon, shape));

        return Ops.Rotary(tape, qkv, new(Positions, Cosine, Sine), shape);
    }
}
