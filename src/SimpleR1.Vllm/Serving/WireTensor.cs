using SimpleR1.Models;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Vllm.Serving;

/// <summary>A tensor that a trainer sends.</summary>
/// <param name="Tensor">
/// The model's tensor; null for one that has no memory of its own there (a tied output matrix).
/// </param>
/// <param name="Type">Element type on the wire: f32, bf16 or f16.</param>
/// <param name="Length">Elements.</param>
public sealed record WireTensor(CheckpointTensor? Tensor, ScalarType Type, long Length)
{
    public long Bytes => Length * Type.ElementSize();
}
