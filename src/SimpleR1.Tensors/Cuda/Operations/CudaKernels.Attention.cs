using SimpleR1.Tensors.Operands;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda.Operations;

/// <content>Attention of packed sequences.</content>
internal sealed partial class CudaKernels
{
    private const int TileThreads = 128,
        AddingThreads = 256,
        PlainThreads = 32;

    private PackedItems? items; // of the last sequences: all layers of a batch have the same

    public void PackedAttention(Tensor qkv, PackedSequences sequences, AttentionResult result)
    {
        var shape = sequences.Shape;
        var work = ItemsOf(qkv, sequences);
        Packed("PackedAttention", "packed_attention", qkv, work)
            .Launch(
                (work.Rows.Count, work.IsTiled ? shape.KeyValueHeads : shape.Heads),
                work.IsTiled ? TileThreads : PlainThreads,
                work.IsTiled ? 4 * PackedItems.TileKeys * HeadBytes(qkv, shape) : 0,
                qkv,
                result.Output,
                result.LogSum,
                work.Rows.Address,
                shape.Scale
            );
    }

    public void PackedAttentionGradient(
        Tensor qkv,
        PackedSequences sequences,
        AttentionResult result,
        Tensor dOutput,
        Tensor dQkv
    )
    {
        var shape = sequences.Shape;
        var work = ItemsOf(qkv, sequences);
        using var delta = Allocate([qkv.shape[0], shape.Heads], float32); // Σ output · dOutput of each row
        int head = HeadBytes(qkv, shape);
        Packed("PackedAttentionGradient", "packed_attention_query_gradient", qkv, work)
            .Launch(
                (work.Rows.Count, work.IsTiled ? shape.KeyValueHeads : shape.Heads),
                work.IsTiled ? TileThreads : PlainThreads,
                work.IsTiled ? 4 * PackedItems.TileKeys * head : 0,
                qkv,
                result.Output,
                dOutput,
                result.LogSum,
                delta,
                dQkv,
                work.Rows.Address,
                shape.Scale
            );
        if (work.IsTiled)
            TiledKeyGradient(qkv, work, new(dOutput, result.LogSum!, delta), dQkv);
        else
            Packed("PackedAttentionGradient", "packed_attention_key_gradient", qkv, work)
                .Launch(
                    (work.Keys.Count, shape.KeyValueHeads),
                    PlainThreads,
                    0,
                    qkv,
                    dOutput,
                    result.LogSum,
                    delta,
                    dQkv,
                    work.Keys.Address,
                    shape.Scale
                );
    }

    private void TiledKeyGradient(Tensor qkv, PackedItems work, RowGradients rows, Tensor dQkv)
    {
        const string file = "PackedAttentionGradient";
        var shape = work.Shape;
        long[] partShape = [work.Parts, shape.KeyValueHeads, 2, PackedItems.TileKeys, shape.HeadDimension];
        using var parts = work.Parts > 0 ? Allocate(partShape, float32) : null;
        Packed(file, "packed_attention_key_gradient", qkv, work)
            .Launch(
                (work.Keys.Count, shape.KeyValueHeads),
                TileThreads,
                (4 * PackedItems.TileRows + 2 * PackedItems.TileKeys) * HeadBytes(qkv, shape)
                    + 4 * PackedItems.TileRows * sizeof(float),
                qkv,
                rows.Output,
                rows.LogSum,
                rows.Delta,
                dQkv,
                parts,
                work.Keys.Address,
                shape.Scale
            );
        if (parts is null)
            return;

        int blocks = 2 * PackedItems.TileKeys * shape.HeadDimension / 4 / AddingThreads; // of four sums a thread
        Packed(file, "packed_attention_add_parts", qkv, work)
            .Launch(
                (work.Sums.Count, blocks * shape.KeyValueHeads),
                AddingThreads,
                0,
                parts,
                dQkv,
                work.Sums.Address,
                shape.Scale
            );
    }

    private static int HeadBytes(Tensor qkv, AttentionShape shape) => shape.HeadDimension * qkv.dtype.ElementSize();

    /// <summary>The function of a file for the matrix unit, or its twin in PlainPackedAttention.cu.</summary>
    private Kernel Packed(string file, string name, Tensor qkv, PackedItems work) =>
        gpu.Kernels.Get(
            work.IsTiled ? file : "PlainPackedAttention",
            work.IsTiled ? name : "plain_" + name,
            Element(qkv),
            $"HEAD_DIM={work.Shape.HeadDimension}",
            $"GROUP={work.Shape.Group}",
            $"KV_HEADS={work.Shape.KeyValueHeads}"
        );

    private PackedItems ItemsOf(Tensor qkv, PackedSequences sequences)
    {
        bool isTiled = PackedItems.AreTiled(qkv.dtype, sequences.Shape);
        if (items?.Segments != sequences.Segments || items.Shape != sequences.Shape || items.IsTiled != isTiled)
        {
            items?.Dispose();
            items = new(gpu, sequences, isTiled);
        }
        return items;
    }

    /// <summary>What the gradient of keys and values reads of each row: dOutput, log Σ exp, Σ output · dOutput.</summary>
    private readonly record struct RowGradients(Tensor Output, Tensor LogSum, Tensor Delta);
}
