using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Models.Checkpoints;

/// <summary>
/// Fills device memory from the host through pinned buffers: while one is copied, the next is filled, in parallel.
/// </summary>
internal sealed unsafe class DeviceUpload : IDisposable
{
    private const int Buffers = 3;
    private const int ItemBytes = 1 << 18; // that a thread converts at a time

    private readonly CudaDevice gpu;
    private readonly PinnedMemory[] buffers;
    private readonly CudaEvent[] copied;
    private int turn;

    /// <param name="bufferBytes">Size of each of three pinned buffers.</param>
    public DeviceUpload(CudaDevice gpu, int bufferBytes = 32 << 20)
    {
        this.gpu = gpu;
        BufferBytes = bufferBytes;
        buffers = [.. Enumerable.Range(0, Buffers).Select(_ => new PinnedMemory(gpu, bufferBytes))];
        copied = [.. Enumerable.Range(0, Buffers).Select(_ => new CudaEvent(gpu))];
    }

    public int BufferBytes { get; }

    /// <summary>Converts and copies elements.</summary>
    /// <param name="from">On the host, of type <paramref name="fromType"/>; not needed after this returns.</param>
    /// <param name="to">On the device.</param>
    public void Write(byte* from, WeightType fromType, nint to, WeightType toType, long count)
    {
        int size = NumberConversion.Size(toType);
        int fromSize = NumberConversion.Size(fromType);
        int perBuffer = BufferBytes / size;
        int perItem = ItemBytes / size;
        for (long done = 0; done < count; done += perBuffer)
        {
            int n = (int)Math.Min(perBuffer, count - done);
            Room(n * size);
            byte* buffer = (byte*)buffers[turn].Pointer;
            byte* source = from + done * fromSize;
            CpuParallel.For(
                (n + perItem - 1) / perItem,
                item =>
                {
                    int first = item * perItem;
                    NumberConversion.Convert(
                        source + (long)first * fromSize,
                        fromType,
                        buffer + (long)first * size,
                        toType,
                        Math.Min(perItem, n - first)
                    );
                }
            );
            Send(to + (nint)(done * size), n * size);
        }
    }

    /// <summary>Waits for a pinned buffer whose last content was copied, for <see cref="Send"/>.</summary>
    /// <param name="bytes">At most <see cref="BufferBytes"/>.</param>
    public Span<byte> Room(int bytes)
    {
        turn = (turn + 1) % Buffers;
        copied[turn].Wait();
        return buffers[turn].Span<byte>()[..bytes];
    }

    /// <summary>Copies the content of the last <see cref="Room"/>.</summary>
    /// <param name="to">On the device.</param>
    public void Send(nint to, int bytes)
    {
        gpu.Upload(buffers[turn].Pointer, to, bytes);
        copied[turn].Record();
    }

    public void Dispose()
    {
        gpu.Synchronize();
        foreach (var buffer in buffers)
            buffer.Dispose();
        foreach (var done in copied)
            done.Dispose();
    }
}
