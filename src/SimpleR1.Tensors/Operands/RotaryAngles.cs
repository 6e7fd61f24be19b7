using static TorchSharp.torch;

namespace SimpleR1.Tensors.Operands;

/// <summary>The angles by which tokens are rotated.</summary>
/// <param name="Positions">[t] int64: each token's row of the tables</param>
/// <param name="Cosine">[positions, headDimension / 2] f32</param>
/// <param name="Sine">Like <paramref name="Cosine"/>.</param>
public readonly record struct RotaryAngles(Tensor Positions, Tensor Cosine, Tensor Sine);
