using System.Collections.Immutable;
using System.Text;
using SimpleR1.Tensors.Cuda.Libraries;
using SimpleR1.Tensors.Cuda.Operations;
using static SimpleR1.Tensors.Cuda.Libraries.CudaDriver;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// One NVIDIA GPU: its memory, one stream on which everything happens in order, and kernels. Launches return at once;
/// their results exist after <see cref="Synchronize"/> or when an event has been reached. One thread uses it at a
/// time.
/// </summary>
public sealed unsafe class CudaDevice
{
    /// <summary>cuBLASLt's scratch memory; NVIDIA's advice for Hopper.</summary>
    private const long CublasWorkspace = 32L << 20;

    private static readonly Lock gate = new();
    private static ImmutableArray<CudaDevice> opened = []; // replaced under the gate, read without it

    [ThreadStatic]
    private static CudaDevice? current;

    private readonly nint context;
    private readonly Lazy<CublasLt> blas; // not needed where only memory is copied
    private readonly SortedDictionary<nint, long> allocations = []; // locked; tells emulated tensors from the CPU's
    private DeviceMemory? word;

    private CudaDevice(int index)
    {
        int device = Find(index);
        Index = index;
        Name = NameOf(device);
        Uuid = UuidOf(device);
        Multiprocessors = Attribute(device, CudaDriver.Multiprocessors);
        ComputeCapability = 10 * Attribute(device, ComputeMajor) + Attribute(device, ComputeMinor);
        SharedMemoryPerBlock = Attribute(device, CudaDriver.SharedMemoryPerBlock);
        if (ComputeCapability < 80)
            throw new CudaDeviceMissingException(
                $"{Name} has compute capability {ComputeCapability / 10.0:0.0}; 8.0 (Ampere) or newer is needed"
            );

        Check(cuDevicePrimaryCtxRetain(out context, device));
        EarlyLaunch = ComputeCapability >= 90 && Environment.GetEnvironmentVariable("SIMPLE_R1_EARLY_LAUNCH") != "0";
        Use();
        Check(cuStreamCreate(out nint stream, 1)); // not synchronous with the null stream
        Stream = stream;
        blas = new(() => new(this, CublasWorkspace));
        Kernels = new(this);
        Operations = new(this);
    }

    public int Index { get; }
    public string Name { get; }

    /// <summary>
    /// The id of this GPU (or part of one), the same in every process and different on every machine; nvidia-smi -L
    /// shows it.
    /// </summary>
    public Guid Uuid { get; }
    public int Multiprocessors { get; }

    /// <summary>90 is 9.0, Hopper.</summary>
    public int ComputeCapability { get; }

    /// <summary>Most dynamic shared memory of a block, in bytes.</summary>
    public int SharedMemoryPerBlock { get; }
    public nint Stream { get; }

    /// <summary>The decoder's operations, as <see cref="Ops"/> calls them.</summary>
    internal CudaKernels Operations { get; }
    public KernelLibrary Kernels { get; }

    /// <summary>
    /// Eight bytes for a kernel whose only result is a number. Taken once, because allocating and freeing wait for
    /// all launched work.
    /// </summary>
    internal DeviceMemory Word => word ??= Allocate(sizeof(ulong), "a number");
    internal CublasLt Blas => blas.Value;

    /// <summary>
    /// Whether kernels may be started while the one before them ends (programmatic dependent launch, Hopper and
    /// newer).
    /// </summary>
    public bool EarlyLaunch { get; set; }

    /// <summary>Whether a graph is being recorded: nothing may be measured or allocated then.</summary>
    public bool Capturing { get; internal set; }

    /// <summary>Where launches are timed, while it is set.</summary>
    public KernelProfile? Profile { get; set; }

    /// <summary>The GPU with this index; opened once a process.</summary>
    /// <exception cref="CudaDeviceMissingException">There is no such device, or it is too old.</exception>
    /// <exception cref="DllNotFoundException">A library is missing; the message names it and how to get it.</exception>
    public static CudaDevice Open(int index)
    {
        lock (gate)
        {
            if (opened.FirstOrDefault(d => d.Index == index) is { } present)
                return present;
            if (!CudaLibraries.Emulated)
                TorchLibrary.UseCuda();
            var device = new CudaDevice(index);
            opened = opened.Add(device);
            return device;
        }
    }

    /// <summary>
    /// The same GPU for another thread, with its own stream, so that neither waits for what the other launches.
    /// Tensors in its memory are not for <see cref="Ops"/>, which finds a tensor's device by its index.
    /// </summary>
    public CudaDevice WithOwnStream() => new(Index);

    /// <summary>GPUs that this process can see; 0 where there is no driver.</summary>
    public static int Count
    {
        get
        {
            if (!CudaLibraries.DriverPresent || cuInit(0) != 0)
                return 0;
            Check(cuDeviceGetCount(out int count));
            return count;
        }
    }

    /// <summary>"cpu" → null, "cuda" or "cuda:1" → that GPU.</summary>
    /// <exception cref="ArgumentException">The text names no device.</exception>
    public static CudaDevice? Parse(string text) =>
        text switch
        {
            "cpu" => null,
            "cuda" => Open(0),
            _ when text.StartsWith("cuda:", StringComparison.Ordinal) && int.TryParse(text.AsSpan(5), out int index) =>
                Open(index),
            _ => throw new ArgumentException($"device '{text}': expected cpu, cuda or cuda:N"),
        };

    /// <summary>The GPU that a tensor's memory is on; null for the CPU.</summary>
    public static CudaDevice? Of(Tensor tensor)
    {
        if (opened.IsEmpty)
            return null;
        if (CudaLibraries.Emulated)
            return opened.FirstOrDefault(d => d.Owns(Aten.DataPointer(tensor)));
        return tensor.device_type == TorchSharp.DeviceType.CUDA
            ? opened.FirstOrDefault(d => d.Index == tensor.device_index)
            : null;
    }

    /// <summary>Makes this the calling thread's device; every operation here begins with it.</summary>
    public void Use()
    {
        if (current == this)
            return;
        Check(cuCtxSetCurrent(context));
        current = this;
    }

    /// <param name="purpose">Named when there is no room: "the KV cache".</param>
    /// <param name="remedy">What to change then.</param>
    /// <exception cref="CudaOutOfMemoryException">The memory doesn't fit.</exception>
    public DeviceMemory Allocate(long bytes, string purpose, string remedy = "use a smaller model or another GPU")
    {
        Use();
        bytes = Math.Max(256, (bytes + 255) / 256 * 256);
        int result = cuMemAlloc_v2(out nint pointer, (nuint)bytes);
        if (result == OutOfMemory)
            throw new CudaOutOfMemoryException(
                $"{purpose} needs {Gigabytes(bytes)} on cuda:{Index} ({Name}), "
                    + $"{Gigabytes(FreeMemory().Free)} of {Gigabytes(FreeMemory().Total)} are free; {remedy}"
            );
        Check(result, "cuMemAlloc(");
        Track(pointer, bytes);
        return new(this, pointer, bytes);
    }

    /// <summary>Memory for a tensor of this shape, zeroed.</summary>
    public DeviceMemory AllocateZeros(long bytes, string purpose)
    {
        var memory = Allocate(bytes, purpose);
        Fill(memory.Pointer, 0, memory.Bytes);
        return memory;
    }

    internal void Free(nint pointer)
    {
        Use();
        Synchronize(); // nothing in flight may still use it
        Untrack(pointer);
        Check(cuMemFree_v2(pointer));
    }

    internal void Track(nint pointer, long bytes)
    {
        lock (allocations)
            allocations.Add(pointer, bytes);
    }

    internal void Untrack(nint pointer)
    {
        lock (allocations)
            allocations.Remove(pointer);
    }

    /// <summary>Bytes that are free now, with all processes counted, and bytes in total.</summary>
    public (long Free, long Total) FreeMemory()
    {
        Use();
        Check(cuMemGetInfo_v2(out nuint free, out nuint total));
        return ((long)free, (long)total);
    }

    /// <summary>A tensor over device memory that the caller keeps alive.</summary>
    public Tensor Wrap(nint pointer, long[] shape, ScalarType type) =>
        Aten.FromPointer(pointer, shape, type, CudaLibraries.Emulated ? null : Index);

    /// <summary>A matrix over device memory whose rows begin <paramref name="rowStride"/> elements apart.</summary>
    internal Tensor WrapRows(nint pointer, long[] shape, ScalarType type, long rowStride) =>
        Aten.FromPointer(pointer, shape, type, CudaLibraries.Emulated ? null : Index, rowStride);

    public void Upload(nint host, nint device, long bytes) => Copy(cuMemcpyHtoDAsync_v2, device, host, bytes);

    public void Download(nint device, nint host, long bytes) => Copy(cuMemcpyDtoHAsync_v2, host, device, bytes);

    public void CopyWithin(nint from, nint to, long bytes) => Copy(cuMemcpyDtoDAsync_v2, to, from, bytes);

    public void Fill(nint pointer, byte value, long bytes)
    {
        Use();
        Check(cuMemsetD8Async(pointer, value, (nuint)bytes, Stream));
    }

    /// <summary>Copies numbers to the device and waits until the copy is complete.</summary>
    public void Write<T>(nint device, ReadOnlySpan<T> values)
        where T : unmanaged
    {
        fixed (T* from = values)
        {
            Upload((nint)from, device, (long)values.Length * sizeof(T));
            Synchronize(); // the array must not move before
        }
    }

    /// <summary>Copies numbers from the device, after everything launched before.</summary>
    public T[] Read<T>(nint device, int count)
        where T : unmanaged
    {
        var values = new T[count];
        fixed (T* to = values)
        {
            Download(device, (nint)to, (long)count * sizeof(T));
            Synchronize(); // the array must not move before
        }
        return values;
    }

    /// <summary>A copy of a tensor's numbers in the host's memory, after everything launched before.</summary>
    public Tensor ToHost(Tensor tensor)
    {
        var copy = empty(tensor.shape, dtype: tensor.dtype);
        Download(Aten.DataPointer(tensor), Aten.DataPointer(copy), tensor.numel() * tensor.dtype.ElementSize());
        Synchronize();
        return copy;
    }

    /// <summary>A copy of a host's numbers in the current <see cref="ResultMemory"/>.</summary>
    public Tensor FromHost(Tensor tensor)
    {
        var copy = ResultMemory.CurrentOf(this).Take(tensor.shape, tensor.dtype);
        Upload(Aten.DataPointer(tensor), Aten.DataPointer(copy), tensor.numel() * tensor.dtype.ElementSize());
        Synchronize(); // the host's memory may be freed afterwards
        return copy;
    }

    private void Copy(Func<nint, nint, nuint, nint, int> copy, nint to, nint from, long bytes)
    {
        Use();
        Check(copy(to, from, (nuint)bytes, Stream), "cuMemcpyAsync(");
    }

    private bool Owns(nint pointer)
    {
        lock (allocations)
        {
            foreach (var (start, bytes) in allocations)
                if (pointer >= start && pointer < start + bytes)
                    return true;
            return false;
        }
    }

    /// <summary>Waits until everything launched so far is done; errors of kernels surface here.</summary>
    public void Synchronize()
    {
        Use();
        Check(cuStreamSynchronize(Stream));
    }

    public static string Gigabytes(long bytes) => $"{bytes / (double)(1L << 30):0.00} GiB";

    /// <summary>The name of a GPU, which is not opened for it; null for the CPU.</summary>
    /// <param name="device">cpu, cuda or cuda:N.</param>
    /// <exception cref="CudaDeviceMissingException">There is no such device.</exception>
    public static string? NameOf(string device)
    {
        if (!device.StartsWith("cuda", StringComparison.Ordinal))
            return null;
        return NameOf(Find(device.Contains(':') ? int.Parse(device.AsSpan(device.IndexOf(':') + 1)) : 0));
    }

    /// <summary>The driver's number of the device with this index.</summary>
    private static int Find(int index)
    {
        Check(cuInit(0));
        Check(cuDeviceGetCount(out int count));
        if (index < 0 || index >= count)
            throw new CudaDeviceMissingException(
                $"cuda:{index}: this machine has {count} CUDA device{(count == 1 ? "" : "s")} "
                    + "(CUDA_VISIBLE_DEVICES may hide some)"
            );
        Check(cuDeviceGet(out int device, index));
        return device;
    }

    private static string NameOf(int device)
    {
        byte* name = stackalloc byte[256];
        Check(cuDeviceGetName(name, 256, device));
        return Encoding.UTF8.GetString(name, new ReadOnlySpan<byte>(name, 256).IndexOf((byte)0));
    }

    private static Guid UuidOf(int device)
    {
        byte* uuid = stackalloc byte[16];
        Check(cuDeviceGetUuid_v2(uuid, device));
        return new(new ReadOnlySpan<byte>(uuid, 16), bigEndian: true);
    }

    private static int Attribute(int device, int attribute)
    {
        Check(cuDeviceGetAttribute(out int value, attribute, device));
        return value;
    }
}
