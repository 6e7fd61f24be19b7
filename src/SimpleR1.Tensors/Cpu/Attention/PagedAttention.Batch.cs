namespace SimpleR1.Tensors.Cpu.Attention;

public static unsafe partial class PagedAttention
{
    /// <summary>
    /// A qkv row is [heads | kvHeads | kvHeads] × dimension; a block holds K [kvHeads, dimension, blockSize] and V
    /// [kvHeads, blockSize, dimension].
    /// </summary>
    public readonly record struct Shape(int Heads, int KeyValueHeads, int Dimension, int BlockSize)
    {
        public int Group => Heads / KeyValueHeads;
        public int QkvRow => (Heads + 2 * KeyValueHeads) * Dimension;
        public int OutputRow => Heads * Dimension;
        public float Scale => (float)(1 / Math.Sqrt(Dimension));
        internal nint HeadElements => Dimension * BlockSize;
        internal nint BlockElements => KeyValueHeads * HeadElements;
    }

    /// <summary>
    /// A sequence's new tokens: rows FirstRow .. of qkv are positions Start .. of the sequence, whose block table
    /// begins at entry Table.
    /// </summary>
    public readonly record struct Segment(int FirstRow, int Count, int Start, int Table);

    /// <summary>Queries First .. of a segment, for one K/V head.</summary>
    private readonly record struct Tile(Segment Segment, int First, int Queries, int Head)
    {
        /// <summary>Positions that the last query sees.</summary>
        public int Seen => Segment.Start + First + Queries;
    }

    /// <summary>A step's work, cut into pieces once for all layers.</summary>
    public sealed class Batch
    {
        internal readonly Segment[] Segments;
        internal readonly int[] Tables;
        internal readonly Shape Shape;
        private readonly Tile[] tiles;
        private readonly int[] items; // tiles items[i] .. items[i + 1] - 1 are item i of the parallel loop

        public Batch(Segment[] segments, int[] tables, Shape shape)
        {
            if (shape.BlockSize % Lanes != 0)
                throw new ArgumentException($"block size: expected a multiple of {Lanes}, found {shape.BlockSize}");
            Segments = segments;
            Tables = tables;
            Shape = shape;
            int queries = Math.Max(1, MostRowsPerTile / shape.Group);
            tiles =
            [
                .. from segment in segments
                from head in Enumerable.Range(0, shape.KeyValueHeads)
                from tile in Enumerable.Range(0, (segment.Count + queries - 1) / queries)
                let built = new Tile(segment, tile * queries, Math.Min(queries, segment.Count - tile * queries), head)
                orderby (long)built.Seen * built.Queries descending // large ones first, so that threads end together
                select built,
            ];
            var starts = new List<int> { 0 };
            long cost = 0;
            for (int i = 0; i < tiles.Length; i++)
            {
                cost += 2L * tiles[i].Seen * tiles[i].Queries * shape.Group * shape.Dimension;
                if (cost < CostPerItem && i < tiles.Length - 1)
                    continue;
                starts.Add(i + 1);
                cost = 0;
            }
            items = [.. starts];
        }

        internal int Items => items.Length - 1;

        internal void Run(int item, float* qkv, float* keys, float* values, float* output)
        {
            for (int i = items[item]; i < items[item + 1]; i++)
            {
                var after = tiles[Math.Min(i + CpuParallel.Threads, tiles.Length - 1)];
                AttendTile(new(qkv, keys, values, output), Tables, tiles[i], after, Shape);
            }
        }
    }
}
