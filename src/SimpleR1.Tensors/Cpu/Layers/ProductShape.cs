namespace SimpleR1.Tensors.Cpu.Layers;

/// <summary>Sizes of y = x·Wᵀ: x [rows, inputs], W [outputs, inputs], y [rows, outputs].</summary>
internal readonly record struct ProductShape(int Rows, int Outputs, int Inputs);
