using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Cuda.Ipc;
using static TorchSharp.torch;

namespace SimpleR1.Models;

/// <summary>
/// All parameters of a model in one contiguous tensor, every parameter a view into it. A weight update is one copy into
/// <see cref="Flat"/>; nothing else has to be done, because the views see it.
/// </summary>
public sealed unsafe class FlatWeights : IDisposable
{
    private readonly Dictionary<string, Tensor> views = [];

    /// <summary>Allocates the buffer (zeros) on <paramref name="device"/>.</summary>
    public FlatWeights(WeightLayout layout, ScalarType type, Device device)
        : this(layout, zeros(layout.Length, dtype: type, device: device).DetachFromDisposeScope(), null) { }

    /// <summary>Uses the caller's memory (shared memory, for example), which is disposed with the weights.</summary>
    /// <param name="memory">At least <c>layout.Length</c> elements of the type.</param>
    public FlatWeights(WeightLayout layout, ScalarType type, nint memory, IDisposable memoryOwner)
        : this(layout, Aten.FromPointer(memory, [layout.Length], type).DetachFromDisposeScope(), memoryOwner) { }

    /// <summary>Allocates the buffer (zeros) on a GPU, so that other processes can map it.</summary>
    public FlatWeights(WeightLayout layout, ScalarType type, CudaDevice device)
        : this(layout, type, device.AllocateZeros(IpcHandle.RoundUp(layout.Length * type.ElementSize()), "the weights"))
    { }

    /// <summary>Uses the caller's memory of a GPU, which is disposed with the weights.</summary>
    /// <exception cref="ArgumentException">The memory is too small.</exception>
    public FlatWeights(WeightLayout layout, ScalarType type, DeviceMemory memory)
        : this(layout, Require(layout, type, memory).DetachFromDisposeScope(), memory) { }

    private static Tensor Require(WeightLayout layout, ScalarType type, DeviceMemory memory) =>
        memory.Bytes >= layout.Length * type.ElementSize()
            ? memory.Tensor([layout.Length], type)
            : throw new ArgumentException(
                $"the weights need {layout.Length * type.ElementSize():N0} bytes, the memory has {memory.Bytes:N0}"
            );

    private FlatWeights(WeightLayout layout, Tensor flat, IDisposable? owner)
    {
        Layout = layout;
        Flat = flat;
        MemoryOwner = owner;

        // The scope holds intermediate tensors: the collector would free a narrow() while view() reads it.
        using (NewDisposeScope())
            foreach (var slot in layout.Slots)
            {
                var view = flat.narrow(0, slot.Offset, slot.Length).view(slot.Shape);
                views.Add(slot.Name, view.DetachFromDisposeScope());
            }

        Layers = [.. layout.Layers.Select(Parameters)];
    }

    public WeightLayout Layout { get; }

    /// <summary>[vocabulary, hidden]</summary>
    public Tensor Embedding => this[Layout.Embedding];

    /// <summary>The parameters of every layer, in order.</summary>
    public IReadOnlyList<LayerParameters> Layers { get; }

    /// <summary>[hidden]</summary>
    public Tensor FinalNorm => this[Layout.FinalNorm];

    /// <summary>[vocabulary, hidden]: the output projection, which may be the embedding itself.</summary>
    public Tensor Output => this[Layout.Output];

    /// <summary>
    /// The owner of the memory, if libtorch did not allocate it (this is how shared memory is recognised).
    /// </summary>
    public IDisposable? MemoryOwner { get; }

    /// <summary>The GPU that holds the weights; null on the CPU.</summary>
    public CudaDevice? Device => DeviceMemory?.Device;

    /// <summary>The weights' memory on a GPU; null on the CPU.</summary>
    public DeviceMemory? DeviceMemory => MemoryOwner as DeviceMemory;

    /// <summary>
    /// Whether the weights are those of another process, which this one maps: only that process writes to them.
    /// </summary>
    public bool IsMapped => DeviceMemory?.MappedFrom is not null;

    /// <summary>[layout.Length], contiguous.</summary>
    public Tensor Flat { get; }

    /// <summary>Number of the update that these weights came with; -1 before the first.</summary>
    public int Version { get; set; } = -1;

    /// <summary>
    /// Hash of the weights if a weight transfer has proven it, otherwise 0. Code that writes to the weights sets it to
    /// 0 first.
    /// </summary>
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

    /// <summary>Copies f32 weights on the CPU to a GPU, converted to <paramref name="type"/>.</summary>
    /// <exception cref="InvalidOperationException">The weights are on a GPU, or not f32.</exception>
    public FlatWeights CopyTo(CudaDevice gpu, ScalarType type)
    {
        if (Device is not null || Flat.dtype != ScalarType.Float32)
        {
            string place = Device is null ? "the CPU" : "a GPU";
            throw new InvalidOperationException(
                $"expected f32 weights on the CPU to copy from, found {Flat.dtype} on {place}"
            );
        }

        var copy = new FlatWeights(Layout, type, gpu) { Version = Version };
        using var upload = new DeviceUpload(gpu);
        upload.Write((byte*)Pointer, WeightType.F32, copy.Pointer, NumberConversion.Of(type), Layout.Length);
        return copy;
    }

    /// <summary>A parameter by its slot's name, in its shape; writing to it writes to <see cref="Flat"/>.</summary>
    public Tensor this[string slot] => views[slot];

    /// <inheritdoc cref="this[string]"/>
    public Tensor this[WeightSlot slot] => views[slot.Name];

    private LayerParameters Parameters(LayerSlots slots, int layer) =>
        new()
        {
            Index = layer,
            AttentionNorm = this[slots.AttentionNorm],
            Qkv = new(this[slots.Qkv], ViewOrNull(slots.QkvBias)),
            QueryNorm = ViewOrNull(slots.QueryNorm),
            KeyNorm = ViewOrNull(slots.KeyNorm),
            Output = new(this[slots.Output]),
            MlpNorm = this[slots.MlpNorm],
            GateUp = new(this[slots.GateUp]),
            Down = new(this[slots.Down]),
        };

    private Tensor? ViewOrNull(WeightSlot? slot) => slot is null ? null : this[slot];

    public void Dispose()
    {
        foreach (var view in views.Values)
            view.Dispose();
        Flat.Dispose();
        MemoryOwner?.Dispose();
    }
}
