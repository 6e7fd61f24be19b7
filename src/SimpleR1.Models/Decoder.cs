using static TorchSharp.torch;

namespace SimpleR1.Models;

/// <summary>The forward pass of Llama, Qwen2 and Qwen3: one definition for training, prefill and decode.</summary>
public sealed class Decoder(FlatWeights weights)
{
    public FlatWeights Weights { get; } = weights;
    public ModelConfig Config => Weights.Layout.Config;

    /// <summary>Runs all layers over packed tokens.</summary>
    /// <param name="ids">[tokens] int64</param>
    /// <param name="positions">[tokens] int64, each token's position in its own sequence</param>
    /// <param name="attention">Whom each token looks at.</param>
    /// <returns>[tokens, hidden], after the final norm</returns>
    public Tensor Hidden(Tensor ids, Tensor positions, IAttention attention) => throw new InvalidOperationException("written next");

    /// <summary>[rows, hidden] → [rows, vocabulary]</summary>
    public Tensor Logits(Tensor hidden) => throw new InvalidOperationException("written next");
}
