using static TorchSharp.torch;

namespace SimpleR1.Tensors.Operands;

/// <summary>Qwen3's norms of each query and each key head.</summary>
/// <param name="Query">[headDimension]</param>
/// <param name="Key">[headDimension]</param>
public readonly record struct QueryKeyNormWeights(Tensor Query, Tensor Key, double Epsilon, AttentionShape Shape);
