using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// The memory of an engine's results. It has two halves: a layer of the model writes into one what the next layer reads
/// while that layer writes into the other. The same operations get the same addresses every time, which is what a CUDA
/// graph needs, and nothing is freed before the arena is.
/// </summary>
public sealed class Arena(CudaDevice device) : ResultMemory(device)
{
    private DeviceMemory? memory;
    private long half,
        used,
        start; // of the half that is being written

    /// <summary>Takes memory for layers of up to this many bytes; what was in the arena is lost.</summary>
    public void Reserve(long bytesPerLayer, string remedy)
    {
        bytesPerLayer = (bytesPerLayer + 255) / 256 * 256;
        if (bytesPerLayer <= half)
            return;
        memory?.Dispose();
        memory = Device.Allocate(2 * bytesPerLayer, "activations", remedy);
        half = bytesPerLayer;
        Reset();
    }

    /// <summary>Bytes in all.</summary>
    public long Bytes => 2 * half;

    /// <summary>Starts over, as the first layer.</summary>
    public void Reset()
    {
        used = 0;
        start = 0;
    }

    /// <summary>The next layer begins: what the one before the last made is gone.</summary>
    public override void NextLayer()
    {
        used = 0;
        start = half - start;
    }

    /// <inheritdoc/>
    /// <exception cref="InvalidOperationException">The layer makes more than was reserved.</exception>
    public override Tensor Take(long[] shape, ScalarType type)
    {
        long bytes = BytesOf(shape, type);
        if (used + bytes > half)
            throw new InvalidOperationException(
                $"the arena's half of {half:N0} bytes has {half - used:N0} left, {bytes:N0} are needed for "
                    + $"[{string.Join(", ", shape)}]: reserve more"
            );
        nint pointer = memory!.Pointer + (nint)(start + used);
        used += bytes;
        return Device.Wrap(pointer, shape, type);
    }

    public override void Dispose() => memory?.Dispose();
}
