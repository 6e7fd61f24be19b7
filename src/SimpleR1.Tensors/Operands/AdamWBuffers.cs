using static TorchSharp.torch;

namespace SimpleR1.Tensors.Operands;

/// <summary>The flat buffers of an AdamW update: tensors of one length, f32 except for these two.</summary>
/// <param name="Weight">f32; or bf16, the upper halves of f32 weights.</param>
/// <param name="Remainder">int16: what the upper halves lack; null where the weights are f32.</param>
public readonly record struct AdamWBuffers(
    Tensor Weight,
    Tensor? Remainder,
    Tensor Gradient,
    Tensor Mean,
    Tensor Variance
);
