using static TorchSharp.torch;

namespace SimpleR1.Tensors.Operands;

/// <summary>The flat buffers of an AdamW update: four f32 tensors of one length.</summary>
public readonly record struct AdamWBuffers(Tensor Weight, Tensor Gradient, Tensor Mean, Tensor Variance);
