using SimpleR1.Tensors.Cuda.Ipc;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda;

/// <summary>Memory of a GPU, freed with this object.</summary>
/// <param name="release">Gives the memory back; frees it by default.</param>
public sealed class DeviceMemory(CudaDevice device, nint pointer, long bytes, Action<nint>? release = null)
    : IDisposable
{
    private nint pointer = pointer;

    public CudaDevice Device => device;
    public nint Pointer => pointer != 0 ? pointer : throw new ObjectDisposedException(nameof(DeviceMemory));
    public long Bytes => bytes;

    /// <summary>The handle by which this process maps another one's memory; null where the memory is its own.</summary>
    public IpcHandle? MappedFrom { get; init; }

    /// <summary>The memory, or a part of it, as a tensor; valid as long as this object.</summary>
    /// <param name="offset">In bytes.</param>
    public Tensor Tensor(long[] shape, ScalarType type, long offset = 0) =>
        device.Wrap(Pointer + (nint)offset, shape, type);

    /// <summary>A part that somebody else uses; disposing it frees nothing. Valid as long as this object.</summary>
    /// <param name="offset">In bytes.</param>
    /// <exception cref="ArgumentOutOfRangeException">The part is not within the memory.</exception>
    public DeviceMemory Part(long offset, long length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset + length, bytes);
        return new(device, Pointer + (nint)offset, length, _ => { }) { MappedFrom = MappedFrom };
    }

    public void Dispose()
    {
        nint released = Interlocked.Exchange(ref pointer, 0);
        if (released != 0)
            (release ?? device.Free)(released);
    }
}
