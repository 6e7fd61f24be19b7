using static TorchSharp.torch;

namespace SimpleR1.Tensors.Operands;

/// <summary>What is kept of each row of logits; three [r] tensors.</summary>
/// <param name="LogProbs">log softmax(logits / temperature)[chosen]</param>
/// <param name="LogSum">log Σ exp(logit / temperature)</param>
/// <param name="Entropy">In nats.</param>
internal readonly record struct TokenDistribution(Tensor LogProbs, Tensor LogSum, Tensor Entropy)
{
    /// <summary>Views of <paramref name="count"/> rows.</summary>
    public TokenDistribution Rows(long first, long count) =>
        new(LogProbs.narrow(0, first, count), LogSum.narrow(0, first, count), Entropy.narrow(0, first, count));
}
