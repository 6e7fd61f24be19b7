using System.Runtime.InteropServices;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.WeightSync.Tcp;

/// <summary>
/// Puts chunks that arrive by one connection into weights: into host memory in place, or into a GPU's memory by pinned
/// buffers and a stream of its own.
/// </summary>
internal sealed unsafe class ChunkWriter : IDisposable
{
    private const int BufferBytes = 4 << 20;

    private readonly FlatWeights weights;
    private readonly CudaDevice? gpu;
    private readonly DeviceUpload? upload;
    private DeviceMemory? changes; // positions and values of the delta that is being applied
    private byte[] encoded = [];

    /// <param name="weights">Nothing else may write to the weights, or compute with them, while chunks arrive.</param>
    public ChunkWriter(FlatWeights weights)
    {
        this.weights = weights;
        if (weights.Device is null)
            return;
        gpu = weights.Device.WithOwnStream();
        upload = new(gpu, BufferBytes);
    }

    public FlatWeights Weights => weights;

    /// <summary>
    /// Part of the hash of weights in host memory, summed over the chunks that were written since <see cref="Begin"/>.
    /// </summary>
    public ulong Hash { get; private set; }

    /// <summary>Prepares for chunks; called on the thread that will write.</summary>
    /// <returns>Disposing it waits until all writes have arrived.</returns>
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

    /// <summary>The memory to read a chunk into.</summary>
    public Span<byte> Room(long offset, int length) => upload is null ? Live(offset, length) : upload.Room(length);

    /// <summary>Writes the chunk that was read into the last <see cref="Room"/>.</summary>
    /// <param name="part">The chunk's part of the hash.</param>
    public void Write(long offset, int length, ulong part)
    {
        if (upload is null)
            Hash += part;
        else
            upload.Send(weights.Pointer + (nint)offset, length);
    }

    /// <summary>The memory to read a chunk's delta into.</summary>
    public Span<byte> DeltaRoom(int length)
    {
        if (encoded.Length < length)
            encoded = new byte[length];
        return encoded.AsSpan(0, length);
    }

    /// <summary>Applies the delta that was read into the last <see cref="DeltaRoom"/>.</summary>
    /// <exception cref="IOException">The delta is not one of a chunk of this length.</exception>
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
        // Decode into pairs of position and value; an encoded change takes at least one byte and the element.
        int count = 0;
        var room = MemoryMarshal.Cast<byte, uint>(upload!.Room(Math.Min(BufferBytes, delta.Length / (1 + size) * 8)));
        foreach (var (index, value) in WeightDelta.Read(delta, length / size, size))
        {
            room[2 * count] = (uint)index;
            room[2 * count + 1] = value;
            count++;
        }
        if (count == 0)
            return;

        // Upload the pairs, and let a kernel write them.
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
