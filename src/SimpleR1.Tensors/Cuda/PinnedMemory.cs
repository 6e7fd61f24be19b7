using static SimpleR1.Tensors.Cuda.Libraries.CudaDriver;

namespace SimpleR1.Tensors.Cuda;

/// <summary>Host memory that the GPU reads and writes directly, and copies from without stopping the host.</summary>
public sealed unsafe class PinnedMemory : IDisposable
{
    private nint pointer;

    public PinnedMemory(CudaDevice device, long bytes)
    {
        device.Use();

        // Portable and mapped: with unified addressing the pointer is the device's too.
        Check(cuMemHostAlloc(out pointer, (nuint)bytes, 3));
        Bytes = bytes;
    }

    public nint Pointer => pointer;
    public long Bytes { get; }

    public Span<T> Span<T>()
        where T : unmanaged => new((void*)pointer, checked((int)(Bytes / sizeof(T))));

    public void Dispose()
    {
        nint freed = Interlocked.Exchange(ref pointer, 0);
        if (freed != 0)
            Check(cuMemFreeHost(freed));
    }
}
