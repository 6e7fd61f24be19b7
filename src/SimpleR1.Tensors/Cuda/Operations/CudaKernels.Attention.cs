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
        if (!UsesMatrixUnit(qkv, work))
        {
            Plain("plain_packed_attention", qkv, shape)
                .Launch(
                    ((int)qkv.shape[0], shape.Heads),
                    32,
                    0,
                    qkv,
                    result.Output,
                    result.LogSum,
                    work.TokenSpans,
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
        bool tiled = UsesMatrixUnit(qkv, work);
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
            tiled ? work.RowItems : work.TokenSpans,
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
            tiled ? work.KeyItems : work.TokenSpans,
            shape.Scale
        );
    }

    private static bool UsesMatrixUnit(Tensor qkv, PackedItems work) =>
        qkv.dtype != float32 && !work.HasPrefixes && work.Shape.HeadDimension is 64 or 128;

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
        if (items?.Segments != sequences.Segments || items.Shape != sequences.Shape)
        {
            items?.Dispose();
            items = new(gpu, sequences);
        }
        return items;
    }

    /// <summary>What each block of packed attention computes, on the device.</summary>
    private sealed class PackedItems : IDisposable
    {
        private const int ItemBytes = 16;

        private readonly DeviceMemory memory;

        public PackedItems(CudaDevice gpu, PackedSequences sequences)
        {
            Segments = sequences.Segments;
            Shape = sequences.Shape;
            HasPrefixes = Segments.Any(segment => segment.Prefix >= 0);
            var rows = new List<Item>();
            var keys = new List<Item>();
            foreach (var (first, count, _) in Segments)
            {
                for (int row = 0; row < count * Shape.Group; row += TileRows)
                    rows.Add(new(first, count, row, 0));
                for (int key = 0; key < count; key += TileKeys)
                    keys.Add(new(first, count, key, 0));
            }

            // The longest work first, so that no block is left alone at the end.
            Item[] all =
            [
                .. rows.OrderByDescending(item => item.Third),
                .. keys.OrderByDescending(item => item.Second - item.Third),
                .. Spans(sequences),
            ];
            RowItemCount = rows.Count;
            KeyItemCount = keys.Count;
            memory = gpu.Allocate(Math.Max(1, all.Length) * (long)ItemBytes, "work items of attention");
            gpu.Write<Item>(memory.Pointer, all);
        }

        /// <summary>For each token: what it sees, and who sees it.</summary>
        private static IEnumerable<Item> Spans(PackedSequences sequences)
        {
            foreach (var family in sequences.Families())
            {
                var members = sequences.Segments[family];
                bool isPrefix = members.Length > 1;
                var root = members[0];
                for (int i = 0; i < members.Length; i++)
                {
                    // The tokens that see a prefix follow each other, to the end of its family.
                    int end = i == 0 && isPrefix ? members[^1].End : members[i].End;
                    var span = new Item(members[i].First, root.First, i == 0 ? 0 : root.Count, end);
                    for (int token = 0; token < members[i].Count; token++)
                        yield return span;
                }
            }
        }

        /// <summary>
        /// An int4 of the kernels: {first token, tokens, first row or key, –} of a block; or {first token of the segment,
        /// first token of its prefix, tokens of that, end of the rows that see it} of a token.
        /// </summary>
        private readonly record struct Item(int First, int Second, int Third, int Fourth);

        public Segment[] Segments { get; }
        public AttentionShape Shape { get; }
        public bool HasPrefixes { get; }
        public int RowItemCount { get; }
        public int KeyItemCount { get; }
        public nint RowItems => memory.Pointer;
        public nint KeyItems => RowItems + RowItemCount * ItemBytes;

        /// <summary>One item a token, in order.</summary>
        public nint TokenSpans => KeyItems + KeyItemCount * ItemBytes;

        public void Dispose() => memory.Dispose();
    }
}
