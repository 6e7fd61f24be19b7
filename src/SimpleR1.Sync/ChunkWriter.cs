using System.Runtime.InteropServices;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Sync;

/// <summary>Puts chunks that arrive into weights: into host memory where they lie, or by pinned buffers into a GPU's memory.</summary>
internal sealed unsafe class ChunkWriter(FlatWeights weights) : IDisposable
{
    private readonly DeviceUpload? upload = weights.Device is { } gpu ? new(gpu) : null;
    private DeviceMemory? changes; // of the chunk that is being applied: positions and values
    private byte[] encoded = [];
    private ulong hash;

    public FlatWeights Weights => weights;

    public void Begin() => hash = 0;

    /// <summary>Where a chunk is to be read to.</summary>
    public Span<byte> Room(long offset, int length) => upload is null ? Live(offset, length) : upload.Room(length);

    /// <summary>The room of the last chunk holds it.</summary>
    /// <param name="part">Its part of the hash.</param>
    public void Write(long offset, int length, ulong part)
    {
        if (upload is null) hash += part;
        else upload.Send(weights.Pointer + (nint)offset, length);
    }

    /// <summary>Where a chunk's delta is to be read to.</summary>
    public Span<byte> DeltaRoom(int length)
    {
        if (encoded.Length < length) encoded = new byte[length];
        return encoded.AsSpan(0, length);
    }

    /// <summary>The room of the last delta holds it.</summary>
    /// <exception cref="IOException">It is no delta of a chunk of this length.</exception>
    public void WriteDelta(long offset, int length, int deltaLength)
    {
        int size = (int)weights.Flat.element_size();
        var delta = encoded.AsSpan(0, deltaLength);
        if (weights.Device is { } gpu) Scatter(gpu, offset, length, delta, size);
        else
        {
            WeightDelta.Apply(delta, Live(offset, length), size);
            hash += WeightHash.Part(weights.Pointer + (nint)offset, length, offset);
        }
    }

    private void Scatter(CudaDevice gpu, long offset, int length, ReadOnlySpan<byte> delta, int size)
    {
        int count = 0;
        var room = MemoryMarshal.Cast<byte, uint>(upload!.Room(Math.Min(32 << 20, delta.Length / (1 + size) * 8)));
        foreach (var (index, value) in WeightDelta.Read(delta, length / size, size)) (room[2 * count], room[2 * count++ + 1]) = ((uint)index, value);
        if (count == 0) return;
        if (changes is null || changes.Bytes < 8L * count)
        {
            changes?.Dispose();
            changes = gpu.Allocate(8L * count, "changed weights");
        }
        upload.Send(changes.Pointer, 8 * count);
        gpu.Kernels.Get("WeightDelta", "weight_delta", "ELEMENT=float", size == 2 ? "BITS=16" : "BITS=32").Launch(((count + 255) / 256, 1), 256, 0, weights.Pointer + (nint)offset, changes, count);
    }

    /// <summary>Of all of it, when every chunk was written.</summary>
    public ulong Hash() => upload is null ? hash : WeightHash.Of(weights);

    private Span<byte> Live(long offset, int length) => new((byte*)weights.Pointer + offset, length);

    public void Dispose()
    {
        upload?.Dispose();
        changes?.Dispose();
    }
}
