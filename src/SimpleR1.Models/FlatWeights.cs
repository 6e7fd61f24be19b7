using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Models;

/// <summary>
/// All parameters of a model in one contiguous tensor, every parameter a view into it. A weight update is one copy into
/// <see cref="Flat"/>; nothing has to be told, because the views see it.
/// </summary>
public sealed class FlatWeights : IDisposable
{
    private readonly Dictionary<string, Tensor> views = [];

    /// <summary>Allocates the buffer (zeros) on <paramref name="device"/>.</summary>
    public FlatWeights(WeightLayout layout, ScalarType type, Device device)
        : this(layout, zeros(layout.Length, dtype: type, device: device).DetachFromDisposeScope(), null) { }

    /// <summary>Uses memory of the caller's, at least <c>layout.Length</c> f32 elements (shared memory, for one); disposed with the weights.</summary>
    public FlatWeights(WeightLayout layout, nint memory, IDisposable memoryOwner)
        : this(layout, Aten.FromPointer(memory, [layout.Length], ScalarType.Float32).DetachFromDisposeScope(), memoryOwner) { }

    private FlatWeights(WeightLayout layout, Tensor flat, IDisposable? owner)
    {
        Layout = layout;
        Flat = flat;
        MemoryOwner = owner;
        foreach (var slot in layout.Slots)
            views.Add(slot.Name, flat.narrow(0, slot.Offset, slot.Length).view(slot.Shape).DetachFromDisposeScope());
    }

    public WeightLayout Layout { get; }
    /// <summary>Who owns the memory, where it isn't libtorch's own allocation (how shared memory is recognised).</summary>
    public IDisposable? MemoryOwner { get; }
    /// <summary>[layout.Length], contiguous.</summary>
    public Tensor Flat { get; }
    /// <summary>Which update these are; -1 before the first.</summary>
    public int Version { get; set; } = -1;
    public long ByteLength => Flat.numel() * Flat.element_size();
    /// <summary>Address of the first element (device memory on a GPU).</summary>
    public nint Pointer => Aten.DataPointer(Flat);
    /// <summary>A parameter by its slot's name, in its shape; writing to it writes to <see cref="Flat"/>.</summary>
    public Tensor this[string slot] => views[slot];

    public void Dispose()
    {
        foreach (var view in views.Values) view.Dispose();
        Flat.Dispose();
        MemoryOwner?.Dispose();
    }
}
