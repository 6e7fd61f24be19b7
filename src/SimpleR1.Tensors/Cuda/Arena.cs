using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// Memory for the results of operations, taken once. It has two halves: a layer of the model writes into one what the next layer reads while it
/// writes into the other. The same operations get the same addresses every time, which is what a CUDA graph needs, and nothing is ever freed.
/// </summary>
public sealed class Arena(CudaDevice device)
{
    private DeviceMemory? memory;
    private long half,
        used,
        base_;

    /// <summary>Takes memory for layers of up to this many bytes; what was in the arena is lost.</summary>
    public void Reserve(long bytesPerLayer, string remedy)
    {
        bytesPerLayer = (bytesPerLayer + 255) / 256 * 256;
        if (bytesPerLayer <= half)
            return;
        memory?.Dispose();
        memory = device.Allocate(2 * bytesPerLayer, "activations", remedy);
        (half, used, base_) = (bytesPerLayer, 0, 0);
    }

    /// <summary>Bytes in all.</summary>
    public long Bytes => 2 * half;

    /// <summary>Starts over, as the first layer.</summary>
    public void Reset() => (used, base_) = (0, 0);

    /// <summary>The next layer begins: what the one before the last made is gone.</summary>
    public void Flip() => (used, base_) = (0, half - base_);

    /// <summary>Uninitialised memory for a result.</summary>
    /// <exception cref="InvalidOperationException">The layer makes more than was reserved.</exception>
    public Tensor Take(long[] shape, ScalarType type)
    {
        long bytes = type.ElementSize();
        foreach (long n in shape)
            bytes *= n;
        if (used + bytes > half)
            throw new InvalidOperationException(
                $"the arena's half of {half:N0} bytes has {half - used:N0} left, {bytes:N0} are needed for [{string.Join(", ", shape)}]: reserve more"
            );
        nint pointer = memory!.Pointer + (nint)(base_ + used);
        used += (bytes + 255) / 256 * 256;
        return device.Wrap(pointer, shape, type);
    }
}
