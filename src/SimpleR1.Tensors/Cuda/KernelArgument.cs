using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda;

/// <summary>An argument of a kernel: a number or an address.</summary>
public readonly record struct KernelArgument(ulong Bits)
{
    public static implicit operator KernelArgument(nint pointer) => new((ulong)pointer);

    public static implicit operator KernelArgument(int value) => new((uint)value);

    public static implicit operator KernelArgument(long value) => new((ulong)value);

    public static implicit operator KernelArgument(float value) => new(BitConverter.SingleToUInt32Bits(value));

    public static implicit operator KernelArgument(Tensor? tensor) =>
        new(tensor is null ? 0 : (ulong)Aten.DataPointer(tensor));

    public static implicit operator KernelArgument(DeviceMemory memory) => new((ulong)memory.Pointer);
}
