using static TorchSharp.torch;

namespace SimpleR1.Tensors.Operands;

/// <summary>The tokens whose log-probs are wanted, and the temperature that logits are divided by.</summary>
/// <param name="Tokens">[r] int64</param>
public readonly record struct TokenChoice(Tensor Tokens, double Temperature)
{
    /// <summary>A view of <paramref name="count"/> rows.</summary>
    internal TokenChoice Rows(long first, long count) => this with { Tokens = Tokens.narrow(0, first, count) };
}
