using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// Memory for the results of operations, taken once and owned by what runs them: an engine, later a trainer. Two
/// users of a GPU never share one. It has two halves: a layer of the model writes into one what the next layer reads
/// while that layer writes into the other. The same operations get the same addresses every time, which is what a
/// CUDA graph needs, and nothing is freed before the arena is.
/// </summary>
/// <remarks>
/// Operations write into the arena that their thread has entered (<see cref="Enter"/>), as libtorch's results belong
/// to a thread's dispose scope.
/// </remarks>
public sealed class Arena(CudaDevice device) : IDisposable
{
    [ThreadStatic]
    private static Arena? current;

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
        memory = device.Allocate(2 * bytesPerLayer, "activations", remedy);
        half = bytesPerLayer;
        Reset();
    }

    /// <summary>Bytes in all.</summary>
    public long Bytes => 2 * half;

    /// <summary>Makes this the arena of the calling thread's operations until the scope is disposed.</summary>
    public Scope Enter()
    {
        var scope = new Scope(current);
        current = this;
        return scope;
    }

    /// <summary>The arena that the calling thread has entered.</summary>
    /// <exception cref="InvalidOperationException">The thread has entered none, or that of another device.</exception>
    public static Arena CurrentOf(CudaDevice device) =>
        current is { } arena && arena.Device == device
            ? arena
            : throw new InvalidOperationException(
                $"results of operations on cuda:{device.Index} need an arena of it, and this thread has "
                    + (current is null ? "entered none" : "entered one of another device")
            );

    public CudaDevice Device => device;

    /// <summary>Starts over, as the first layer.</summary>
    public void Reset()
    {
        used = 0;
        start = 0;
    }

    /// <summary>The next layer begins: what the one before the last made is gone.</summary>
    public void Flip()
    {
        used = 0;
        start = half - start;
    }

    /// <summary>Uninitialised memory for a result.</summary>
    /// <exception cref="InvalidOperationException">The layer makes more than was reserved.</exception>
    public Tensor Take(long[] shape, ScalarType type)
    {
        long bytes = type.ElementSize();
        foreach (long n in shape)
            bytes *= n;
        if (used + bytes > half)
            throw new InvalidOperationException(
                $"the arena's half of {half:N0} bytes has {half - used:N0} left, {bytes:N0} are needed for "
                    + $"[{string.Join(", ", shape)}]: reserve more"
            );
        nint pointer = memory!.Pointer + (nint)(start + used);
        used += (bytes + 255) / 256 * 256;
        return device.Wrap(pointer, shape, type);
    }

    public void Dispose() => memory?.Dispose();

    /// <summary>While it lives, operations of its thread write into the arena that was entered.</summary>
    public readonly ref struct Scope
    {
        private readonly Arena? before;

        internal Scope(Arena? before) => this.before = before;

        public void Dispose() => current = before;
    }
}
