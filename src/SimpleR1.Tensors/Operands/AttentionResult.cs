using static TorchSharp.torch;

namespace SimpleR1.Tensors.Operands;

/// <summary>What attention computes.</summary>
/// <param name="Output">[t, heads · d]</param>
/// <param name="LogSum">[t, heads]: log Σ exp of each softmax, which the gradient needs; null where there is
/// none.</param>
internal readonly record struct AttentionResult(Tensor Output, Tensor? LogSum);
