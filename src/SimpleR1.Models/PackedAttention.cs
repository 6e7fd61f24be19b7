using SimpleR1.Tensors;
using SimpleR1.Tensors.Operands;
using static TorchSharp.torch;

namespace SimpleR1.Models;

/// <summary>
/// Attention within a packed batch: each token sees itself, the tokens before it in its own segment, and the segment's
/// prefix. Segments lie one after another, without padding.
/// </summary>
public sealed class PackedAttention(ModelConfig config, Segment[] segments) : IAttention
{
    public Tensor Attend(Tape? tape, int layer, Tensor qkv, QueryKeyRotation rotation)
    {
        var rotated = rotation.Apply(tape, qkv);
        return Ops.PackedAttention(tape, rotated, new(segments, config.AttentionShape));
    }
}
