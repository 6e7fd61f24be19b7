using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// Memory of a GPU for the results of operations, owned by what runs them: an engine's <see cref="Arena"/>, a
/// trainer's <see cref="DevicePool"/>. Operations write into the memory that their thread has entered, as libtorch's
/// results belong to a thread's dispose scope. Two users of a GPU never share one.
/// </summary>
public abstract class ResultMemory(CudaDevice device) : IDisposable
{
    [ThreadStatic]
    private static ResultMemory? current;

    public CudaDevice Device => device;

    /// <summary>Uninitialised memory for a result.</summary>
    /// <exception cref="InvalidOperationException">There is no room.</exception>
    public abstract Tensor Take(long[] shape, ScalarType type);

    /// <summary>A layer without gradients begins: results of the layer before the last may be gone.</summary>
    public virtual void NextLayer() { }

    /// <summary>Makes this the memory of the calling thread's operations until the scope is disposed.</summary>
    public Scope Enter()
    {
        var scope = new Scope(current);
        current = this;
        return scope;
    }

    /// <summary>The memory that the calling thread has entered.</summary>
    /// <exception cref="InvalidOperationException">The thread has entered none, or that of another device.</exception>
    public static ResultMemory CurrentOf(CudaDevice device) =>
        current is { } memory && memory.Device == device
            ? memory
            : throw new InvalidOperationException(
                $"results of operations on cuda:{device.Index} need memory of it, and this thread has "
                    + (current is null ? "entered none" : "entered that of another device")
            );

    public abstract void Dispose();

    /// <summary>A tensor's bytes, rounded up so that what follows is aligned.</summary>
    private protected static long BytesOf(long[] shape, ScalarType type)
    {
        long bytes = type.ElementSize();
        foreach (long n in shape)
            bytes *= n;
        return (bytes + 255) / 256 * 256;
    }

    /// <summary>While it lives, operations of its thread write into the memory that was entered.</summary>
    public readonly struct Scope : IDisposable
    {
        private readonly ResultMemory? before;

        internal Scope(ResultMemory? before) => this.before = before;

        public void Dispose() => current = before;
    }
}
