using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Models;

/// <summary>
/// Attention within a packed batch: each token sees itself and the tokens before it in its own sequence. Sequences lie
/// one after another, without padding.
/// </summary>
/// <param name="offsets">First token of each sequence, then the number of tokens.</param>
public sealed class PackedAttention(ModelConfig config, int[] offsets) : IAttention
{
    public Tensor Attend(Tape? tape, int layer, Tensor qkv, QueryKeyRotation rotation)
    {
        var rotated = rotation.Apply(tape, qkv);
        return Ops.PackedAttention(tape, rotated, new(offsets, config.AttentionShape));
    }
}
