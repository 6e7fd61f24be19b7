using System.Runtime.InteropServices;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.WeightSync.Tcp;

/// <summary>Puts chunks that arrive by one connection into weights: into host memory where they lie, or by pinned buffers and a stream of its own into a GPU's memory.</summary>
internal sealed unsafe class ChunkWriter : IDisposable
{
    private const int BufferBytes = 4 << 20;

    private readonly FlatWeights weights;
    private readonly CudaDevice? gpu;
    private readonly DeviceUpload? upload;
    private DeviceMemory? changes; // of the chunk that is being applied: positions and values
    private byte[] encoded = [];

    /// <param name="weights">Nothing else may write to them, or compute with them, while chunks arrive.</param>
    public ChunkWriter(FlatWeights weights)
    {
        this.weights = weights;
        if (weights.Device is null)
            return;
        gpu = weights.Device.Beside();
        upload = new(gpu, BufferBytes);
    }

    public FlatWeights Weights => weights;

    /// <summary>What the chunks that were written since <see cref="Begin"/> contribute to the hash of weights in host memory.</summary>
    public ulong Hash { get; private set; }

    /// <summary>On the thread that will write.</summary>
    /// <returns>Waits, when disposed, until all that was written is there.</returns>
    public Writing Begin()
    {
        Hash = 0;
        gpu?.Use();
        return new(gpu);
    }

    internal readonly struct Writing(CudaDevice? gpu) : IDisposable
    {
        public void Dispose() => gpu?.Synchronize();
    }

    /// <summary>Where a chunk is to be read to.</summary>
    public Span<byte> Room(long offset, int length) => upload is null ? Live(offset, length) : upload.Room(length);

    /// <summary>The room of the last chunk holds it.</summary>
    /// <param name="part">Its part of the hash.</param>
    public void Write(long offset, int length, ulong part)
    {
        if (upload is null)
            Hash += part;
        else
            upload.Send(weights.Pointer + (nint)offset, length);
    }

    /// <summary>Where a chunk's delta is to be read to.</summary>
    public Span<byte> DeltaRoom(int length)
    {
        if (encoded.Length < length)
            encoded = new byte[length];
        return encoded.AsSpan(0, length);
    }

    /// <summary>The room of the last delta holds it.</summary>
    /// <exception cref="IOException">It is no delta of a chunk of this length.</exception>
    public void WriteDelta(long offset, int length, int deltaLength)
    {
        int size = (int)weights.Flat.element_size();
        var delta = encoded.AsSpan(0, deltaLength);
        if (gpu is not null)
            Scatter(gpu, offset, length, delta, size);
        else
        {
            WeightDelta.Apply(delta, Live(offset, length), size);
            Hash += WeightHash.Part(weights.Pointer + (nint)offset, length, offset);
        }
    }

    private void Scatter(CudaDevice gpu, long offset, int length, ReadOnlySpan<byte> delta, int size)
    {
        int count = 0;
        var room = MemoryMarshal.Cast<byte, uint>(upload!.Room(Math.Min(BufferBytes, delta.Length / (1 + size) * 8)));
        foreach (var (index, value) in WeightDelta.Read(delta, length / size, size))
            (room[2 * count], room[2 * count++ + 1]) = ((uint)index, value);
        if (count == 0)
            return;
        if (changes is null || changes.Bytes < 8L * count)
        {
            changes?.Dispose();
            changes = gpu.Allocate(8L * count, "changed weights");
        }
        upload.Send(changes.Pointer, 8 * count);
        gpu.Kernels.Get("WeightDelta", "weight_delta", "ELEMENT=float", size == 2 ? "BITS=16" : "BITS=32")
            .Launch(((count + 255) / 256, 1), 256, 0, weights.Pointer + (nint)offset, changes, count);
    }

    private Span<byte> Live(long offset, int length) => new((byte*)weights.Pointer + offset, length);

    public void Dispose()
    {
        upload?.Dispose();
        changes?.Dispose();
    }
}
