using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda;

/// <summary>Memory of a GPU, freed with this object.</summary>
public sealed class DeviceMemory(CudaDevice device, nint pointer, long bytes) : IDisposable
{
    private nint pointer = pointer;

    public CudaDevice Device => device;
    public nint Pointer => pointer != 0 ? pointer : throw new ObjectDisposedException(nameof(DeviceMemory));
    public long Bytes => bytes;

    /// <summary>The memory, or a part of it, as a tensor; valid as long as this object.</summary>
    /// <param name="offset">In bytes.</param>
    public Tensor Tensor(long[] shape, ScalarType type, long offset = 0) =>
        device.Wrap(Pointer + (nint)offset, shape, type);

    public void Dispose()
    {
        nint freed = Interlocked.Exchange(ref pointer, 0);
        if (freed != 0)
            device.Free(freed);
    }
}
