using static TorchSharp.torch;

namespace SimpleR1.Tensors.Operands;

/// <summary>Where the gradients of an RMS norm go.</summary>
/// <param name="X">[t, h] f32: added to.</param>
/// <param name="Rounded">[t, h]: overwritten by the sum in X, in this tensor's type; null where it isn't needed.</param>
/// <param name="Weight">[h] f32: added to; null where the weight isn't trained.</param>
internal readonly record struct NormGradients(Tensor X, Tensor? Rounded, Tensor? Weight);
