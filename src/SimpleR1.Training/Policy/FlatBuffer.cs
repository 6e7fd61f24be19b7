using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Training.Policy;

/// <summary>Zeros beside flat weights: one element a weight, on the same device.</summary>
internal sealed class FlatBuffer : IDisposable
{
    private readonly DeviceMemory? memory;

    /// <param name="purpose">Named when there is no room.</param>
    /// <exception cref="CudaOutOfMemoryException">There is no room on the GPU.</exception>
    public FlatBuffer(FlatWeights weights, ScalarType type, string purpose)
    {
        long length = weights.Layout.Length;
        memory = weights.Device?.AllocateZeros(length * type.ElementSize(), purpose);
        Tensor = memory is null ? zeros(length, dtype: type) : memory.Tensor([length], type);
        Tensor.DetachFromDisposeScope();
    }

    /// <summary>[layout.Length]</summary>
    public Tensor Tensor { get; }

    public void Clear()
    {
        if (memory is null)
            Tensor.zero_();
        else
            memory.Device.Fill(memory.Pointer, 0, memory.Bytes);
    }

    public void Dispose()
    {
        Tensor.Dispose();
        memory?.Dispose();
    }
}
