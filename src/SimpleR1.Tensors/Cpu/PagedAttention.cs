using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace SimpleR1.Tensors.Cpu;

/// <summary>
/// Causal softmax attention with grouped queries over a paged KV cache, read in place through block tables (Kwon et al. 2023, "PagedAttention"),
/// with the softmax carried over chunks of positions (Dao et al. 2022, "FlashAttention"). All query heads of a group share each load of K and V.
/// </summary>
/// <remarks>
/// A query's result has the same bits in whatever batch, tile or chunk of a prompt it is computed: chunks lie at fixed positions, and every
/// sum runs in the order of positions. Slots beyond a sequence's end are never read as numbers; they may hold anything.
/// </remarks>
public static unsafe class PagedAttention
{
    private const int Lanes = 16; // positions a vector of keys holds
    private const int Chunk = 256; // positions whose scores are held at a time
    private const int MostRowsPerTile = 32; // (query, head) pairs that share loads of K and V
    private const long CostPerItem = 40_000; // multiply-adds that are worth handing to a thread: a few microseconds

    /// <summary>A qkv row is [heads | kvHeads | kvHeads] × dimension; a block holds K [kvHeads, dimension, blockSize] and V [kvHeads, blockSize, dimension].</summary>
    public readonly record struct Shape(int Heads, int KeyValueHeads, int Dimension, int BlockSize)
    {
        public int Group => Heads / KeyValueHeads;
        public int QkvRow => (Heads + 2 * KeyValueHeads) * Dimension;
        public int OutputRow => Heads * Dimension;
        public float Scale => (float)(1 / Math.Sqrt(Dimension));
        internal nint HeadElements => Dimension * BlockSize;
        internal nint BlockElements => KeyValueHeads * HeadElements;
    }

    /// <summary>A sequence's new tokens: rows FirstRow .. of qkv are positions Start .. of the sequence, whose block table begins at entry Table.</summary>
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
            (Segments, Tables, Shape) = (segments, tables, shape);
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
                AttendTile(
                    qkv,
                    keys,
                    values,
                    output,
                    Tables,
                    tiles[i],
                    tiles[Math.Min(i + CpuParallel.Threads, tiles.Length - 1)],
                    Shape
                );
        }
    }

    /// <summary>Stores the new tokens' keys and values in their blocks.</summary>
    /// <param name="qkv">[tokens, QkvRow]</param>
    public static void Write(float* qkv, float* keys, float* values, Batch batch)
    {
        var s = batch.Shape;
        CpuParallel.For(
            Math.Min(batch.Segments.Length, CpuParallel.Threads),
            part =>
            {
                for (int i = part; i < batch.Segments.Length; i += CpuParallel.Threads)
                {
                    var segment = batch.Segments[i];
                    for (int t = 0; t < segment.Count; t++)
                    {
                        int position = segment.Start + t,
                            slot = position % s.BlockSize;
                        nint block = batch.Tables[segment.Table + position / s.BlockSize] * s.BlockElements;
                        float* k = qkv + (nint)(segment.FirstRow + t) * s.QkvRow + s.Heads * s.Dimension,
                            v = k + s.KeyValueHeads * s.Dimension;
                        for (
                            int head = 0;
                            head < s.KeyValueHeads;
                            head++, k += s.Dimension, v += s.Dimension, block += s.HeadElements
                        )
                        {
                            float* column = keys + block + slot;
                            for (int d = 0; d < s.Dimension; d++)
                                column[d * s.BlockSize] = k[d];
                            new ReadOnlySpan<float>(v, s.Dimension).CopyTo(
                                new(values + block + slot * s.Dimension, s.Dimension)
                            );
                        }
                    }
                }
            }
        );
    }

    /// <summary>softmax(q·Kᵀ/√d)·V of each new token over all positions up to its own, which <see cref="Write"/> has stored.</summary>
    /// <param name="output">[tokens, heads × dimension]</param>
    public static void Attend(float* qkv, float* keys, float* values, float* output, Batch batch) =>
        CpuParallel.For(batch.Items, item => batch.Run(item, qkv, keys, values, output));

    /// <param name="after">A tile that this thread will probably run soon: its keys are asked for while memory is idle.</param>
    private static void AttendTile(
        float* qkv,
        float* keys,
        float* values,
        float* output,
        int[] tables,
        Tile tile,
        Tile after,
        Shape s
    )
    {
        int d = s.Dimension,
            group = s.Group,
            rows = tile.Queries * group,
            padded = (rows + 3) / 4 * 4; // row r is query r / group, head r % group of the group
        float* q = Scratch.Rent((long)padded * (2 * d + Chunk + 2)),
            sum = q + (long)padded * d,
            scores = sum + (long)padded * d;
        float* max = scores + padded * Chunk,
            total = max + padded;
        nint firstRow = tile.Segment.FirstRow + tile.First;
        new Span<float>(q, 2 * padded * d).Clear();
        new Span<float>(total, padded).Clear();
        new Span<float>(max, padded).Fill(float.NegativeInfinity);
        for (int r = 0; r < rows; r++)
        {
            float* from = qkv + (firstRow + r / group) * s.QkvRow + (tile.Head * group + r % group) * d;
            for (int i = 0; i < d; i++)
                q[r * d + i] = from[i] * s.Scale;
        }
        for (int start = 0; start < tile.Seen; start += Chunk)
        {
            int seen = Math.Min(Chunk, tile.Seen - start);
            nint Place(
                int at
            ) // where the head's part of the block with position start + at begins
                => tables[tile.Segment.Table + (start + at) / s.BlockSize] * s.BlockElements + tile.Head * s.HeadElements;
            if (start == 0)
                Prefetch(keys + Place(0), s);
            for (int at = 0; at < seen; at += 2 * Lanes)
            {
                int other = at + Lanes < seen ? at + Lanes : at; // an odd last group is computed twice
                for (int ahead = at + 2 * Lanes; ahead < Math.Min(at + 4 * Lanes, seen); ahead += s.BlockSize)
                    Prefetch(keys + Place(ahead), s);
                Prefetch(values + Place(at), s);
                if (other != at)
                    Prefetch(values + Place(other), s);
                float* k0 = keys + Place(at) + (start + at) % s.BlockSize,
                    k1 = keys + Place(other) + (start + other) % s.BlockSize;
                for (int r = 0; r < padded; r += 4)
                    Scores4x2(q + r * d, d, k0, k1, s.BlockSize, scores + r * Chunk + at, scores + r * Chunk + other);
            }
            for (int r = 0; r < padded; r++)
            {
                int visible = r < rows ? tile.Segment.Start + tile.First + r / group + 1 - start : 0;
                Softmax(scores + r * Chunk, Math.Min(visible, seen), seen, ref max[r], ref total[r], sum + r * d, d);
            }
            for (int at = 0; at < seen; at += Lanes)
            {
                if (start + Chunk >= tile.Seen && at < after.Seen)
                    Prefetch(
                        keys
                            + tables[after.Segment.Table + at / s.BlockSize] * s.BlockElements
                            + after.Head * s.HeadElements,
                        s
                    );
                float* v = values + Place(at) + (start + at) % s.BlockSize * d;
                SmallProduct.Multiply(
                    scores + at,
                    Chunk,
                    1,
                    v,
                    d,
                    sum,
                    d,
                    padded,
                    d,
                    Math.Min(Lanes, seen - at),
                    add: true
                );
            }
        }
        for (int r = 0; r < rows; r++)
        {
            float* to = output + (firstRow + r / group) * s.OutputRow + (tile.Head * group + r % group) * d;
            float scale = 1 / total[r];
            for (int i = 0; i < d; i++)
                to[i] = sum[r * d + i] * scale;
        }
    }

    /// <summary>
    /// Asks for a head's part of a block, K or V, ahead of its use (1.5 times the speed on cold blocks): the hardware guesses ahead only within a page.
    /// </summary>
    private static void Prefetch(float* part, Shape s)
    {
        if (!Sse.IsSupported)
            return;
        for (float* end = part + s.HeadElements; part < end; part += Lanes)
            Sse.Prefetch1(part);
    }

    /// <summary>Scores of 4 queries with 2 × 16 keys: 8 sums at once hide the latency of a multiply-add.</summary>
    private static void Scores4x2(float* q, int d, float* k0, float* k1, int keyStride, float* to0, float* to1)
    {
        Vector512<float> s00,
            s01,
            s10,
            s11,
            s20,
            s21,
            s30,
            s31;
        s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = Vector512<float>.Zero;
        float* q1 = q + d,
            q2 = q1 + d,
            q3 = q2 + d;
        for (int i = 0; i < d; i++, k0 += keyStride, k1 += keyStride)
        {
            Vector512<float> a = Vector512.Load(k0),
                b = Vector512.Load(k1),
                x = Vector512.Create(q[i]);
            (s00, s01) = (Vector512.FusedMultiplyAdd(x, a, s00), Vector512.FusedMultiplyAdd(x, b, s01));
            x = Vector512.Create(q1[i]);
            (s10, s11) = (Vector512.FusedMultiplyAdd(x, a, s10), Vector512.FusedMultiplyAdd(x, b, s11));
            x = Vector512.Create(q2[i]);
            (s20, s21) = (Vector512.FusedMultiplyAdd(x, a, s20), Vector512.FusedMultiplyAdd(x, b, s21));
            x = Vector512.Create(q3[i]);
            (s30, s31) = (Vector512.FusedMultiplyAdd(x, a, s30), Vector512.FusedMultiplyAdd(x, b, s31));
        }
        s00.Store(to0);
        s01.Store(to1);
        s10.Store(to0 + Chunk);
        s11.Store(to1 + Chunk);
        s20.Store(to0 + 2 * Chunk);
        s21.Store(to1 + 2 * Chunk);
        s30.Store(to0 + 3 * Chunk);
        s31.Store(to1 + 3 * Chunk);
    }

    /// <summary>Scores of one query become exp(score − max); what lies beyond <paramref name="visible"/>, up to <paramref name="seen"/>, becomes 0.</summary>
    private static void Softmax(float* scores, int visible, int seen, ref float max, ref float total, float* sum, int d)
    {
        int end = (seen + Lanes - 1) / Lanes * Lanes;
        if (visible <= 0)
        {
            new Span<float>(scores, end).Clear();
            return;
        }
        int used = (visible + Lanes - 1) / Lanes * Lanes;
        new Span<float>(scores + visible, used - visible).Fill(float.NegativeInfinity);
        new Span<float>(scores + used, end - used).Clear();
        var top = Vector512.Create(max);
        for (int i = 0; i < used; i += Lanes)
            top = Vector512.MaxNative(top, Vector512.Load(scores + i));
        float newMax = max;
        for (int i = 0; i < Lanes; i++)
            newMax = MathF.Max(newMax, top[i]);
        if (newMax != max)
        {
            float scale = MathF.Exp(max - newMax);
            total *= scale;
            for (int i = 0; i < d; i++)
                sum[i] *= scale;
            max = newMax;
        }
        var parts = Vector512<float>.Zero;
        for (int i = 0; i < used; i += Lanes)
        {
            var e = VectorMath.Exp(Vector512.Load(scores + i) - Vector512.Create(max));
            e.Store(scores + i);
            parts += e;
        }
        total += Vector512.Sum(parts);
    }

    /// <summary>The same in plain loops and doubles, keys and values stored by itself: what the kernel is tested against.</summary>
    public static void Reference(
        ReadOnlySpan<float> qkv,
        Span<float> keys,
        Span<float> values,
        Span<float> output,
        Segment[] segments,
        int[] tables,
        Shape s
    )
    {
        int Block(Segment g, int position, int head) =>
            (tables[g.Table + position / s.BlockSize] * s.KeyValueHeads + head) * s.Dimension * s.BlockSize;
        foreach (var g in segments)
            for (int t = 0; t < g.Count; t++)
            for (int head = 0; head < s.KeyValueHeads; head++)
            for (int i = 0; i < s.Dimension; i++)
            {
                int row = (g.FirstRow + t) * s.QkvRow + (s.Heads + head) * s.Dimension + i,
                    slot = (g.Start + t) % s.BlockSize;
                keys[Block(g, g.Start + t, head) + i * s.BlockSize + slot] = qkv[row];
                values[Block(g, g.Start + t, head) + slot * s.Dimension + i] = qkv[row + s.KeyValueHeads * s.Dimension];
            }
        foreach (var g in segments)
            for (int t = 0; t < g.Count; t++)
            for (int head = 0; head < s.Heads; head++)
            {
                var weights = new double[g.Start + t + 1];
                for (int p = 0; p < weights.Length; p++)
                for (int i = 0; i < s.Dimension; i++)
                    weights[p] +=
                        (double)qkv[(g.FirstRow + t) * s.QkvRow + head * s.Dimension + i]
                        * keys[Block(g, p, head / s.Group) + i * s.BlockSize + p % s.BlockSize]
                        / Math.Sqrt(s.Dimension);
                double max = weights.Max(),
                    total = weights.Sum(w => Math.Exp(w - max));
                for (int i = 0; i < s.Dimension; i++)
                {
                    double mixed = 0;
                    for (int p = 0; p < weights.Length; p++)
                        mixed +=
                            Math.Exp(weights[p] - max)
                            / total
                            * values[Block(g, p, head / s.Group) + p % s.BlockSize * s.Dimension + i];
                    output[(g.FirstRow + t) * s.OutputRow + head * s.Dimension + i] = (float)mixed;
                }
            }
    }
}
