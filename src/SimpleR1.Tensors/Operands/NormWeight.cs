using static TorchSharp.torch;

namespace SimpleR1.Tensors.Operands;

/// <summary>An RMS norm: y = x / √(mean(x²) + ε) · weight.</summary>
/// <param name="Weight">[h]</param>
internal readonly record struct NormWeight(Tensor Weight, double Epsilon);
