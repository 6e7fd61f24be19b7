using static SimpleR1.Tensors.Cuda.Libraries.CudaDriver;

namespace SimpleR1.Tensors.Cuda.Ipc;

/// <summary>
/// Names memory of a GPU for other processes of the machine (CUDA IPC), which map it: both then read and write the same
/// bytes. The owner must outlive all that map it. The driver orders nothing between processes: each synchronises before
/// it tells the other that it is done.
/// </summary>
/// <param name="Gpu"><see cref="CudaDevice.Uuid"/></param>
/// <param name="Name">The driver's handle, in Base64.</param>
/// <param name="Bytes">Length of the memory.</param>
public sealed record IpcHandle(Guid Gpu, string Name, long Bytes)
{
    /// <summary>
    /// The driver shares whole blocks of this size; smaller allocations may lie together with others in one.
    /// </summary>
    private const long Block = 2 << 20;

    /// <summary>The length of an allocation of at least this many bytes that can be shared.</summary>
    public static long RoundUp(long bytes) => (bytes + Block - 1) / Block * Block;

    /// <exception cref="ArgumentException">
    /// The memory is no allocation of its own: it is a part of one, mapped, or too small.
    /// </exception>
    /// <exception cref="CudaException">The driver shares no memory here (containers, MIG).</exception>
    public static unsafe IpcHandle Of(DeviceMemory memory)
    {
        memory.Device.Use();
        Check(cuMemGetAddressRange_v2(out nint start, out nuint bytes, memory.Pointer));
        if (memory.MappedFrom is not null || memory.Bytes % Block != 0 || start != memory.Pointer)
            throw new ArgumentException(
                $"memory to share must be an allocation of its own of whole blocks of {Block >> 20} MiB; this is "
                    + $"{memory.Bytes:N0} bytes at {memory.Pointer - start:N0} in an allocation of {bytes:N0}"
            );
        Check(cuIpcGetMemHandle(out var handle, memory.Pointer));
        var name = new ReadOnlySpan<byte>(handle.Bytes, IpcMemoryHandle.Size);
        return new(memory.Device.Uuid, Convert.ToBase64String(name), memory.Bytes);
    }

    /// <summary>Maps the memory into this process, once; disposing the result ends that.</summary>
    /// <exception cref="CudaException">
    /// The driver refuses: the memory is of this process, of another container, or gone.
    /// </exception>
    public unsafe DeviceMemory Open(CudaDevice gpu)
    {
        gpu.Use();
        var handle = new IpcMemoryHandle();
        Convert.FromBase64String(Name).AsSpan(0, IpcMemoryHandle.Size).CopyTo(new(handle.Bytes, IpcMemoryHandle.Size));
        Check(cuIpcOpenMemHandle_v2(out nint pointer, handle, LazyPeerAccess));
        gpu.Track(pointer, Bytes);
        return new(gpu, pointer, Bytes, Close) { MappedFrom = this };

        void Close(nint mapped)
        {
            gpu.Synchronize(); // nothing in flight may still use it
            gpu.Untrack(mapped);
            Check(cuIpcCloseMemHandle(mapped));
        }
    }
}
