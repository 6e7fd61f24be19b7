using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Training.Policy;

/// <summary>
/// The f32 weights that the optimizer changes. The live weights, which the forward pass and the workers use, are these
/// themselves in f32. In bf16 they are their upper halves, rounded to the nearest, and a remainder of 16 bits beside
/// them makes them exact: no second copy in f32 exists.
/// </summary>
public sealed class MasterWeights : IDisposable
{
    private const int ChunkElements = 16 << 20;
    private const int Threads = 256;

    private readonly FlatBuffer? remainder;

    /// <exception cref="NotSupportedException">The weights are f16, or bf16 on the CPU.</exception>
    public MasterWeights(FlatWeights live)
    {
        Live = live;
        var type = live.Flat.dtype;
        if (type != ScalarType.Float32 && (type != ScalarType.BFloat16 || live.Device is null))
            throw new NotSupportedException(
                $"weights are trained in f32, or in bf16 on a GPU, not in {ElementType.Of(type).Name}"
                    + (live.Device is null ? " on a CPU" : "")
            );
        if (type == ScalarType.BFloat16)
            remainder = new(live, ScalarType.Int16, "the weights' remainders");
    }

    public FlatWeights Live { get; }

    /// <summary>int16, like the live weights: what bf16 weights lack; null where these are f32.</summary>
    public Tensor? Remainder => remainder?.Tensor;

    /// <summary>Reads the weights of a model folder.</summary>
    /// <exception cref="FileNotFoundException">A file is missing.</exception>
    /// <exception cref="InvalidDataException">A file is damaged, or of another model.</exception>
    public void Read(string folder)
    {
        if (Live.Device is null || remainder is null)
        {
            Checkpoint.ReadInto(folder, Live);
            return;
        }
        using var master = new FlatWeights(Live.Layout, ScalarType.Float32, CPU);
        Checkpoint.ReadInto(folder, master);
        CopyFrom(master);
    }

    /// <summary>Sets the weights.</summary>
    /// <param name="master">f32 on the CPU, of the same layout; kept by the caller.</param>
    public void CopyFrom(FlatWeights master)
    {
        if (Live.Device is not { } gpu)
        {
            Live.Flat.copy_(master.Flat);
            return;
        }
        if (remainder is null)
        {
            gpu.Upload(master.Pointer, Live.Pointer, master.ByteLength);
            gpu.Synchronize();
            return;
        }
        EachChunk(
            (chunk, first, count) =>
            {
                gpu.Upload(master.Pointer + (nint)(first * sizeof(float)), chunk, count * sizeof(float));
                Launch("split_master", chunk, Upper(first), Lower(first), count);
            }
        );
    }

    /// <summary>The weights in f32 on the CPU: the live ones if they are that, else a copy for the caller to dispose.</summary>
    public FlatWeights OnCpu()
    {
        if (Live.Device is not { } gpu)
            return Live;
        var master = new FlatWeights(Live.Layout, ScalarType.Float32, CPU) { Version = Live.Version };
        if (remainder is null)
        {
            gpu.Download(Live.Pointer, master.Pointer, master.ByteLength);
            gpu.Synchronize();
        }
        else
            EachChunk(
                (chunk, first, count) =>
                {
                    Launch("join_master", Upper(first), Lower(first), chunk, count);
                    gpu.Download(chunk, master.Pointer + (nint)(first * sizeof(float)), count * sizeof(float));
                }
            );
        return master;
    }

    /// <summary>No weight is NaN or infinite.</summary>
    public bool AreFinite()
    {
        bool areFinite = false;
        UseOnCpu(master => areFinite = master.AreFinite());
        return areFinite;
    }

    /// <summary>Calls with the weights in f32 on the CPU, which are the live ones or a copy for the call.</summary>
    public void UseOnCpu(Action<FlatWeights> use)
    {
        var master = OnCpu();
        try
        {
            use(master);
        }
        finally
        {
            if (master != Live)
                master.Dispose();
        }
    }

    /// <summary>Calls with room for some f32 weights on the GPU, the first of them, and how many there are.</summary>
    private void EachChunk(Action<nint, long, long> copy)
    {
        var gpu = Live.Device!;
        long length = Live.Layout.Length;
        using var chunk = gpu.Allocate(Math.Min(length, ChunkElements) * sizeof(float), "copying the weights");
        for (long first = 0; first < length; first += ChunkElements)
        {
            copy(chunk.Pointer, first, Math.Min(ChunkElements, length - first));
            gpu.Synchronize(); // the chunk and the host's memory are used again
        }
    }

    private nint Upper(long element) => Live.Pointer + (nint)(element * sizeof(ushort));

    private nint Lower(long element) => Aten.DataPointer(Remainder!) + (nint)(element * sizeof(ushort));

    /// <summary>A kernel of MasterWeights.cu.</summary>
    private void Launch(string kernel, params ReadOnlySpan<KernelArgument> arguments) =>
        Live.Device!.Kernels.Get("MasterWeights", kernel, "ELEMENT=float")
            .Launch((8 * Live.Device.Multiprocessors, 1), Threads, 0, arguments);

    public void Dispose() => remainder?.Dispose();
}
