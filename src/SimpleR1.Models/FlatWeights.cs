using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Models;

/// <summary>
/// All parameters of a model in one contiguous tensor, every parameter a view into it. A weight update is one copy into
/// <see cref="Flat"/>; nothing has to be told, because the views see it.
/// </summary>
public sealed unsafe class FlatWeights : IDisposable
{
    private readonly Dictionary<string, Tensor> views = [];

    /// <summary>Allocates the buffer (zeros) on <paramref name="device"/>.</summary>
    public FlatWeights(WeightLayout layout, ScalarType type, Device device)
        : this(layout, zeros(layout.Length, dtype: type, device: device).DetachFromDisposeScope(), null) { }

    /// <summary>Uses memory of the caller's, at least <c>layout.Length</c> f32 elements (shared memory, for one); disposed with the weights.</summary>
    public FlatWeights(WeightLayout layout, nint memory, IDisposable memoryOwner)
        : this(
            layout,
            Aten.FromPointer(memory, [layout.Length], ScalarType.Float32).DetachFromDisposeScope(),
            memoryOwner
        ) { }

    /// <summary>Allocates the buffer (zeros) on a GPU.</summary>
    public FlatWeights(WeightLayout layout, ScalarType type, CudaDevice device)
        : this(layout, type, device.AllocateZeros(layout.Length * type.ElementSize(), "the weights")) { }

    private FlatWeights(WeightLayout layout, ScalarType type, DeviceMemory memory)
        : this(layout, memory.Tensor([layout.Length], type).DetachFromDisposeScope(), memory) { }

    private FlatWeights(WeightLayout layout, Tensor flat, IDisposable? owner)
    {
        Layout = layout;
        Flat = flat;
        MemoryOwner = owner;
        using var scope = NewDisposeScope(); // holds what is made on the way: the collector would free a narrow() while view() reads it
        foreach (var slot in layout.Slots)
            views.Add(slot.Name, flat.narrow(0, slot.Offset, slot.Length).view(slot.Shape).DetachFromDisposeScope());
    }

    public WeightLayout Layout { get; }

    /// <summary>Who owns the memory, where it isn't libtorch's own allocation (how shared memory is recognised).</summary>
    public IDisposable? MemoryOwner { get; }

    /// <summary>The GPU that holds them; null on the CPU.</summary>
    public CudaDevice? Device => (MemoryOwner as DeviceMemory)?.Device;

    /// <summary>[layout.Length], contiguous.</summary>
    public Tensor Flat { get; }

    /// <summary>Which update these are; -1 before the first.</summary>
    public int Version { get; set; } = -1;

    /// <summary>Hash of what they hold, where a weight transfer has proven it; 0 where it is not known. Whoever writes to them sets it to 0 first.</summary>
    public ulong ProvenHash { get; set; }
    public long ByteLength => Flat.numel() * Flat.element_size();

    /// <summary>Address of the first element (device memory on a GPU).</summary>
    public nint Pointer => Aten.DataPointer(Flat);

    /// <summary>No element is NaN or infinite.</summary>
    public bool AreFinite()
    {
        using var scope = NewDisposeScope();
        return Flat.isfinite().all().item<bool>();
    }

    /// <summary>A copy of these f32 weights of the CPU on a GPU, in this type.</summary>
    public FlatWeights CopyTo(CudaDevice gpu, ScalarType type)
    {
        if (Device is not null || Flat.dtype != ScalarType.Float32)
            throw new InvalidOperationException(
                $"expected f32 weights on the CPU to copy from, found {Flat.dtype} on {(Device is null ? "the CPU" : "a GPU")}"
            );
        var copy = new FlatWeights(Layout, type, gpu) { Version = Version };
        using var upload = new DeviceUpload(gpu);
        upload.Write((byte*)Pointer, WeightType.F32, copy.Pointer, NumberConversion.Of(type), Layout.Length);
        return copy;
    }

    /// <summary>A parameter by its slot's name, in its shape; writing to it writes to <see cref="Flat"/>.</summary>
    public Tensor this[string slot] => views[slot];

    public void Dispose()
    {
        foreach (var view in views.Values)
            view.Dispose();
        Flat.Dispose();
        MemoryOwner?.Dispose();
    }
}
