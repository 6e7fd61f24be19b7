using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda.Operations;

/// <summary>
/// The decoder's operations on a GPU. Weights and activations are bf16, f16 or f32; the residual stream and the
/// gradients of weights are f32. Results lie in the current <see cref="ResultMemory"/>. Gradients are sums in a fixed
/// order: the same batch gives the same bits. CpuKernels is the reference.
/// </summary>
internal sealed partial class CudaKernels(CudaDevice gpu) : IKernels
{
    private const int SumThreads = 128; // of kernels that add up parts

    public void Check(Tensor tensor, ReadOnlySpan<long> shape, ScalarType type, string name) =>
        Require.On(gpu, tensor, shape, type, name);

    public ScalarType Activations(ScalarType weights) => weights;

    public Tensor Allocate(long[] shape, ScalarType type) => ResultMemory.CurrentOf(gpu).Take(shape, type);

    public Tensor AllocateZeros(long[] shape, ScalarType type)
    {
        var tensor = Allocate(shape, type);
        gpu.Fill(Aten.DataPointer(tensor), 0, tensor.numel() * type.ElementSize());
        return tensor;
    }

    public void Copy(Tensor from, Tensor to) =>
        gpu.CopyWithin(Aten.DataPointer(from), Aten.DataPointer(to), from.numel() * from.dtype.ElementSize());

    public void Add(Tensor x, Tensor sum) =>
        gpu
            .Kernels.Get("Add", "add", Element(sum))
            .Launch((8 * gpu.Multiprocessors, 1), 256, 0, x, sum, sum.numel() / 8);

    /// <remarks>A row of zeros for an id below 0, which is padding; ids are on the device and not checked.</remarks>
    public void Embedding(Tensor table, Tensor ids, Tensor y)
    {
        int width = (int)table.shape[1];
        gpu.Kernels.Get("Embedding", "embedding", Element(table))
            .Launch(((int)ids.shape[0], 1), ThreadsFor(width / 8), 0, y, table, ids, width);
    }

    public void EmbeddingGradient(Tensor ids, Tensor dy, Tensor dTable) => ScatterRows(ids, dy, dTable);

    public void SelectRows(Tensor x, Tensor indices, Tensor y)
    {
        int width = (int)x.shape[1];
        gpu.Kernels.Get("SelectRows", "select_rows", Element(x))
            .Launch(((int)indices.shape[0], 1), ThreadsFor(width / 8), 0, x, y, indices, width);
    }

    public void SelectRowsGradient(Tensor indices, Tensor dy, Tensor dx) => ScatterRows(indices, dy, dx);

    /// <summary>Adds each row of dy to the row of dx that it was read from.</summary>
    private void ScatterRows(Tensor indices, Tensor dy, Tensor dx)
    {
        const int threads = 256;
        int count = (int)indices.shape[0],
            rows = (int)dx.shape[0],
            width = (int)dx.shape[1];
        string[] types = [Element(dy), ElementType.Of(dx.dtype).Definition("TARGET")];
        using var readers = Allocate([rows, 2], ScalarType.Int32);

        gpu.Kernels.Get("ScatterRows", "clear_readers", types)
            .Launch((Groups(rows, threads), 1), threads, 0, readers, rows);
        gpu.Kernels.Get("ScatterRows", "count_readers", types)
            .Launch((Groups(count, threads), 1), threads, 0, indices, readers, count);
        gpu.Kernels.Get("ScatterRows", "scatter_rows", types)
            .Launch((count, 1), ThreadsFor(width / 8), 0, indices, readers, dy, dx, count, width);
    }

    private static string Element(Tensor tensor) => ElementType.Of(tensor.dtype).Definition();

    /// <summary>Whole warps, as many as have work, 1,024 at most.</summary>
    private static int ThreadsFor(int items) => Math.Clamp((items + 31) / 32 * 32, 32, 1024);

    /// <summary>Groups of this size that hold all items.</summary>
    private static int Groups(long items, int size) => (int)((items + size - 1) / size);
}
