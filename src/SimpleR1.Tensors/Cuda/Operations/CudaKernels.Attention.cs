using SimpleR1.Tensors.Operands;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda.Operations;

/// <content>Attention of packed sequences.</content>
internal sealed partial class CudaKernels
{
    private const int TileRows = 64, // queries times heads of a group that a block computes
        TileKeys = 64;

    private PackedItems? items; // of the last sequences: all layers of a batch have the same

    public void PackedAttention(Tensor qkv, PackedSequences sequences, AttentionResult result)
    {
        var shape = sequences.Shape;
        var work = ItemsOf(sequences);
        if (!UsesMatrixUnit(qkv, shape))
        {
            Plain("plain_packed_attention", qkv, shape)
                .Launch(
                    ((int)qkv.shape[0], shape.Heads),
                    32,
                    0,
                    qkv,
                    result.Output,
                    result.LogSum,
                    work.Spans,
                    shape.Scale
                );
            return;
        }

        int shared = 4 * TileKeys * shape.HeadDimension * qkv.dtype.ElementSize();
        Tiled("PackedAttention", "packed_attention", qkv, shape)
            .Launch(
                (work.RowItemCount, shape.KeyValueHeads),
                2 * TileRows,
                shared,
                qkv,
                result.Output,
                result.LogSum,
                work.RowItems,
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
        var work = ItemsOf(sequences);
        using var delta = Allocate([qkv.shape[0], shape.Heads], float32); // Σ output · dOutput of each row
        bool tiled = UsesMatrixUnit(qkv, shape);
        var query = tiled
            ? Tiled("PackedAttentionGradient", "packed_attention_query_gradient", qkv, shape)
            : Plain("plain_packed_attention_query_gradient", qkv, shape);
        var key = tiled
            ? Tiled("PackedAttentionGradient", "packed_attention_key_gradient", qkv, shape)
            : Plain("plain_packed_attention_key_gradient", qkv, shape);

        int head = shape.HeadDimension * qkv.dtype.ElementSize();
        query.Launch(
            tiled ? (work.RowItemCount, shape.KeyValueHeads) : ((int)qkv.shape[0], shape.Heads),
            tiled ? 2 * TileRows : 32,
            tiled ? 4 * TileKeys * head : 0,
            qkv,
            result.Output,
            dOutput,
            result.LogSum,
            delta,
            dQkv,
            tiled ? work.RowItems : work.Spans,
            shape.Scale
        );
        key.Launch(
            (tiled ? work.KeyItemCount : (int)qkv.shape[0], shape.KeyValueHeads),
            tiled ? 2 * TileKeys : 32,
            tiled ? (4 * TileRows + 2 * TileKeys) * head + 4 * TileRows * sizeof(float) : 0,
            qkv,
            dOutput,
            result.LogSum,
            delta,
            dQkv,
            tiled ? work.KeyItems : work.Spans,
            shape.Scale
        );
    }

    private static bool UsesMatrixUnit(Tensor qkv, AttentionShape shape) =>
        qkv.dtype != float32 && shape.HeadDimension is 64 or 128;

    private Kernel Plain(string name, Tensor qkv, AttentionShape shape) =>
        Tiled("PlainPackedAttention", name, qkv, shape);

    private Kernel Tiled(string file, string name, Tensor qkv, AttentionShape shape) =>
        gpu.Kernels.Get(
            file,
            name,
            Element(qkv),
            $"HEAD_DIM={shape.HeadDimension}",
            $"GROUP={shape.Group}",
            $"KV_HEADS={shape.KeyValueHeads}"
        );

    private PackedItems ItemsOf(PackedSequences sequences)
    {
        if (items?.Offsets != sequences.Offsets || items.Group != sequences.Shape.Group)
        {
            items?.Dispose();
            items = new(gpu, sequences);
        }
        return items;
    }

    /// <summary>What each block of packed attention computes, on the device.</summary>
    private sealed class PackedItems : IDisposable
    {
        private readonly DeviceMemory memory;

        public PackedItems(CudaDevice gpu, PackedSequences sequences)
        {
            Offsets = sequences.Offsets;
            Group = sequences.Shape.Group;
            var rows = new List<Item>();
            var keys = new List<Item>();
            var spans = new List<Item>();
            for (int i = 0; i + 1 < Offsets.Length; i++)
            {
                int first = Offsets[i],
                    length = Offsets[i + 1] - first;
                for (int row = 0; row < length * Group; row += TileRows)
                    rows.Add(new(first, length, row, 0));
                for (int key = 0; key < length; key += TileKeys)
                    keys.Add(new(first, length, key, 0));
                for (int token = 0; token < length; token++)
                    spans.Add(new(first, length, token, 0));
            }

            // The longest work first, so that no block is left alone at the end.
            Item[] all =
            [
                .. rows.OrderByDescending(item => item.Place),
                .. keys.OrderByDescending(item => item.Length - item.Place),
                .. spans,
            ];
            RowItemCount = rows.Count;
            KeyItemCount = keys.Count;
            memory = gpu.Allocate(Math.Max(1, all.Length) * (long)ItemBytes, "work items of attention");
            gpu.Write<Item>(memory.Pointer, all);
        }

        private const int ItemBytes = 16;

        /// <param name="First">First token of the sequence.</param>
        /// <param name="Length">Tokens of the sequence.</param>
        /// <param name="Place">First row or key of a block, or the token, counted from the sequence's first.</param>
        /// <param name="Unused">Makes it 16 bytes.</param>
        private readonly record struct Item(int First, int Length, int Place, int Unused);

        public int[] Offsets { get; }
        public int Group { get; }
        public int RowItemCount { get; }
        public int KeyItemCount { get; }
        public nint RowItems => memory.Pointer;
        public nint KeyItems => RowItems + RowItemCount * ItemBytes;

        /// <summary>One item a token, in order.</summary>
        public nint Spans => KeyItems + KeyItemCount * ItemBytes;

        public void Dispose() => memory.Dispose();
    }
}
