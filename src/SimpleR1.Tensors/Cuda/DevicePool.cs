using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// The memory of a trainer's results: one piece of a GPU's memory, of which each tensor has a part until it is
/// disposed. The same operations get the same addresses every time. A view does not keep its memory: the tensor that
/// was taken must live as long as its views.
/// </summary>
/// <remarks>
/// A part may be taken again while kernels that use its former tensor still run: all that use the pool do so on the
/// device's stream, one after another.
/// </remarks>
public sealed class DevicePool : ResultMemory
{
    private DeviceMemory memory;
    private readonly bool ownsMemory;
    private readonly string remedy;
    private readonly List<Part> parts = []; // in the order of their addresses

    /// <summary>A tensor's part of the memory, in bytes from its beginning.</summary>
    private readonly record struct Part(long Start, long End, Tensor Tensor);

    /// <summary>Takes memory of its own.</summary>
    /// <param name="remedy">What to change if it, or a result, does not fit.</param>
    /// <exception cref="CudaOutOfMemoryException">It does not fit.</exception>
    public DevicePool(CudaDevice device, long bytes, string remedy)
        : this(device.Allocate(bytes, "activations", remedy), remedy) => ownsMemory = true;

    /// <summary>Uses memory that the caller keeps.</summary>
    /// <param name="remedy">What to change if a result does not fit.</param>
    public DevicePool(DeviceMemory memory, string remedy)
        : base(memory.Device)
    {
        this.memory = memory;
        this.remedy = remedy;
    }

    /// <summary>Whether somebody else has the memory now: results are refused then.</summary>
    public Func<bool> IsLent { get; init; } = () => false;

    /// <summary>Bytes in all.</summary>
    public long Bytes => memory.Bytes;

    /// <summary>Bytes of the tensors that live.</summary>
    public long UsedBytes
    {
        get
        {
            FreeDisposed();
            return parts.Sum(part => part.End - part.Start);
        }
    }

    /// <summary>The highest end of a part so far, from the memory's beginning.</summary>
    public long PeakBytes { get; private set; }

    /// <summary>Forgets the peak.</summary>
    public void ResetPeak() => PeakBytes = 0;

    /// <summary>From now on the results lie in other memory, which the caller keeps.</summary>
    /// <exception cref="InvalidOperationException">A result still lives.</exception>
    public void Use(DeviceMemory other)
    {
        if (UsedBytes > 0)
            throw new InvalidOperationException($"{UsedBytes:N0} bytes of results are in the memory that is replaced");
        memory = other;
    }

    /// <summary>The lowest place that is large enough.</summary>
    /// <exception cref="CudaOutOfMemoryException">There is none.</exception>
    /// <exception cref="InvalidOperationException">The memory is lent.</exception>
    public override Tensor Take(long[] shape, ScalarType type)
    {
        if (IsLent())
            throw new InvalidOperationException(
                "the memory for activations is lent to the workers: reclaim it before the policy computes"
            );
        FreeDisposed();
        long bytes = BytesOf(shape, type),
            start = 0;
        int place = 0;
        while (place < parts.Count && parts[place].Start - start < bytes)
            start = parts[place++].End;
        if (start + bytes > memory.Bytes)
            throw new CudaOutOfMemoryException(
                $"[{string.Join(", ", shape)}] needs {CudaDevice.Gigabytes(bytes)}, and {CudaDevice.Gigabytes(UsedBytes)} "
                    + $"of {CudaDevice.Gigabytes(memory.Bytes)} for activations are in use: {remedy}"
            );
        var tensor = Device.Wrap(memory.Pointer + (nint)start, shape, type);
        parts.Insert(place, new(start, start + bytes, tensor));
        PeakBytes = Math.Max(PeakBytes, start + bytes);
        return tensor;
    }

    private void FreeDisposed() => parts.RemoveAll(part => part.Tensor.IsInvalid);

    public override void Dispose()
    {
        if (ownsMemory)
            memory.Dispose();
    }
}
