using SimpleR1.Tensors.Operands;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda.Operations;

/// <content>Attention of packed sequences.</content>
internal sealed partial class CudaKernels
{
    private const int TileRows = 64, // queries times heads of a group that a block computes
        TileKeys = 64,
        TileThreads = 128;
    private const int PlainThreads = 32;

    private PackedItems? items; // of the last sequences: all layers of a batch have the same

    public void PackedAttention(Tensor qkv, PackedSequences sequences, AttentionResult result)
    {
        var shape = sequences.Shape;
        var work = ItemsOf(qkv, sequences);
        Packed("PackedAttention", "packed_attention", qkv, work)
            .Launch(
                (work.Rows.Count, work.IsTiled ? shape.KeyValueHeads : shape.Heads),
                work.IsTiled ? TileThreads : PlainThreads,
                work.IsTiled ? 4 * TileKeys * HeadBytes(qkv, shape) : 0,
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
                work.IsTiled ? 4 * TileKeys * head : 0,
                qkv,
                result.Output,
                dOutput,
                result.LogSum,
                delta,
                dQkv,
                work.Rows.Address,
                shape.Scale
            );
        Packed("PackedAttentionGradient", "packed_attention_key_gradient", qkv, work)
            .Launch(
                (work.Keys.Count, shape.KeyValueHeads),
                work.IsTiled ? TileThreads : PlainThreads,
                work.IsTiled ? (4 * TileRows + 2 * TileKeys) * head + 4 * TileRows * sizeof(float) : 0,
                qkv,
                dOutput,
                result.LogSum,
                delta,
                dQkv,
                work.Keys.Address,
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
        bool isTiled = PackedItems.AreTiled(qkv.dtype, sequences);
        if (items?.Segments != sequences.Segments || items.Shape != sequences.Shape || items.IsTiled != isTiled)
        {
            items?.Dispose();
            items = new(gpu, sequences, isTiled);
        }
        return items;
    }

    /// <summary>What each block of packed attention computes, on the device.</summary>
    private sealed class PackedItems : IDisposable
    {
        private const int ItemBytes = 16;

        private readonly DeviceMemory memory;

        /// <param name="isTiled">For the kernels of the matrix unit; else for the plain ones, an item a token.</param>
        public PackedItems(CudaDevice gpu, PackedSequences sequences, bool isTiled)
        {
            Segments = sequences.Segments;
            Shape = sequences.Shape;
            IsTiled = isTiled;
            Item[] rows = isTiled ? RowTiles(sequences) : [.. Spans(sequences)];
            Item[] keys = isTiled ? KeyTiles(sequences) : [];

            memory = gpu.Allocate((long)(rows.Length + keys.Length) * ItemBytes, "work items of attention");
            gpu.Write<Item>(memory.Pointer, [.. rows, .. keys]);
            Rows = (rows.Length, memory.Pointer);
            Keys = isTiled ? (keys.Length, memory.Pointer + rows.Length * ItemBytes) : Rows;
        }

        /// <summary>Whether the matrix unit has kernels for these sequences.</summary>
        public static bool AreTiled(ScalarType type, PackedSequences sequences) =>
            type != float32
            && sequences.Shape.HeadDimension is 64 or 128
            && sequences.Segments.All(segment => segment.Prefix < 0);

        // The longest work first, so that no block is left alone at the end.

        private static Item[] RowTiles(PackedSequences sequences) =>
            [.. Tiles(sequences, TileRows, sequences.Shape.Group).OrderByDescending(item => item.Third)];

        private static Item[] KeyTiles(PackedSequences sequences) =>
            [.. Tiles(sequences, TileKeys, 1).OrderByDescending(item => item.Second - item.Third)];

        /// <summary>A segment's rows or keys, by tiles.</summary>
        private static IEnumerable<Item> Tiles(PackedSequences sequences, int tile, int rowsPerToken)
        {
            foreach (var (first, count, _) in sequences.Segments)
                for (int row = 0; row < count * rowsPerToken; row += tile)
                    yield return new(first, count, row, 0);
        }

        /// <summary>For each token: what it sees, and who sees it.</summary>
        private static IEnumerable<Item> Spans(PackedSequences sequences)
        {
            foreach (var family in sequences.Families())
            {
                var members = sequences.Segments[family];
                var root = members[0];
                for (int i = 0; i < members.Length; i++)
                {
                    // The tokens that see a prefix follow each other, to the end of its family.
                    int end = i == 0 ? members[^1].End : members[i].End;
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
        public bool IsTiled { get; }

        /// <summary>Of the kernels whose blocks own rows: how many items, and their address.</summary>
        public (int Count, nint Address) Rows { get; }

        /// <summary>Of the kernel whose blocks own keys.</summary>
        public (int Count, nint Address) Keys { get; }

        public void Dispose() => memory.Dispose();
    }
}
