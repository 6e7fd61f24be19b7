using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Models.Checkpoints;

/// <summary>Fills device memory from the host through pinned buffers: while one is copied, the next is filled, in parallel.</summary>
internal sealed unsafe class DeviceUpload : IDisposable
{
    private const int Buffers = 3,
        ItemBytes = 1 << 18;

    private readonly CudaDevice gpu;
    private readonly PinnedMemory[] buffers;
    private readonly CudaEvent[] copied;
    private int turn;

    /// <param name="bufferBytes">Of each of three pinned buffers.</param>
    public DeviceUpload(CudaDevice gpu, int bufferBytes = 32 << 20)
    {
        this.gpu = gpu;
        BufferBytes = bufferBytes;
        buffers = [.. Enumerable.Range(0, Buffers).Select(_ => new PinnedMemory(gpu, bufferBytes))];
        copied = [.. Enumerable.Range(0, Buffers).Select(_ => new CudaEvent(gpu))];
    }

    public int BufferBytes { get; }

    /// <summary>Converts and copies elements.</summary>
    /// <param name="from">On the host, of type <paramref name="fromType"/>; not needed any more when this returns.</param>
    /// <param name="to">On the device.</param>
    public void Write(byte* from, WeightType fromType, nint to, WeightType toType, long count)
    {
        int size = NumberConversion.Size(toType),
            fromSize = NumberConversion.Size(fromType),
            perBuffer = BufferBytes / size,
            perItem = ItemBytes / size;
        for (long at = 0; at < count; at += perBuffer)
        {
            int n = (int)Math.Min(perBuffer, count - at);
            Room(n * size);
            byte* buffer = (byte*)buffers[turn].Pointer,
                source = from + at * fromSize;
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
            Send(to + (nint)(at * size), n * size);
        }
    }

    /// <summary>A pinned buffer for <see cref="Send"/>, free of what was copied from it before.</summary>
    /// <param name="bytes">At most <see cref="BufferBytes"/>.</param>
    public Span<byte> Room(int bytes)
    {
        turn = (turn + 1) % Buffers;
        copied[turn].Wait();
        return buffers[turn].Span<byte>()[..bytes];
    }

    /// <summary>Copies what the last <see cref="Room"/> was filled with.</summary>
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
