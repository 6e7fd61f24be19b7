using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using SimpleR1.Tensors.Cpu.Layers;

namespace SimpleR1.Tensors.Cpu.Attention;

/// <summary>
/// Causal softmax attention with grouped queries over a paged KV cache, read in place through block tables (Kwon et
/// al. 2023, "PagedAttention"), with the softmax carried over chunks of positions (Dao et al. 2022,
/// "FlashAttention"). All query heads of a group share each load of K and V.
/// </summary>
/// <remarks>
/// A query's result has the same bits in whatever batch, tile or chunk of a prompt it is computed: chunks lie at
/// fixed positions, and every sum runs in the order of positions. Slots beyond a sequence's end may hold anything:
/// they are never read as numbers.
/// </remarks>
public static unsafe partial class PagedAttention
{
    private const int Lanes = 16; // positions a vector of keys holds
    private const int Chunk = 256; // positions whose scores are held at a time
    private const int MostRowsPerTile = 32; // (query, head) pairs that share loads of K and V
    private const long CostPerItem = 40_000; // multiply-adds that are worth handing to a thread: a few microseconds

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

    /// <summary>
    /// softmax(q·Kᵀ/√d)·V of each new token over all positions up to its own, which <see cref="Write"/> has stored.
    /// </summary>
    /// <param name="output">[tokens, heads × dimension]</param>
    public static void Attend(float* qkv, float* keys, float* values, float* output, Batch batch) =>
        CpuParallel.For(batch.Items, item => batch.Run(item, qkv, keys, values, output));

    /// <summary>The arrays of one call: qkv and output of the tokens, keys and values of the cache.</summary>
    private readonly struct Arrays(float* qkv, float* keys, float* values, float* output)
    {
        public readonly float* Qkv = qkv;
        public readonly float* Keys = keys;
        public readonly float* Values = values;
        public readonly float* Output = output;
    }

    /// <summary>A thread's working memory for a tile; row r is query r / group, head r % group of the group.</summary>
    private readonly struct Work
    {
        /// <summary>[padded, d], scaled, and zeros in the padding.</summary>
        public readonly float* Query;

        /// <summary>[padded, d]: Σ of the weighted values.</summary>
        public readonly float* Sum;

        /// <summary>[padded, Chunk]</summary>
        public readonly float* Scores;
        public readonly float* Max;
        public readonly float* Total;

        public Work(int padded, int d)
        {
            Query = Scratch.Rent((long)padded * (2 * d + Chunk + 2));
            Sum = Query + (long)padded * d;
            Scores = Sum + (long)padded * d;
            Max = Scores + padded * Chunk;
            Total = Max + padded;
            new Span<float>(Query, 2 * padded * d).Clear();
            new Span<float>(Total, padded).Clear();
            new Span<float>(Max, padded).Fill(float.NegativeInfinity);
        }
    }

    /// <param name="after">A tile that this thread will probably run soon: its keys are prefetched while memory is
    /// idle.</param>
    private static void AttendTile(Arrays arrays, int[] tables, Tile tile, Tile after, Shape s)
    {
        int d = s.Dimension,
            group = s.Group,
            rows = tile.Queries * group,
            padded = (rows + 3) / 4 * 4;
        var work = new Work(padded, d);
        nint firstRow = tile.Segment.FirstRow + tile.First;
        for (int r = 0; r < rows; r++)
        {
            float* from = arrays.Qkv + (firstRow + r / group) * s.QkvRow + (tile.Head * group + r % group) * d;
            for (int i = 0; i < d; i++)
                work.Query[r * d + i] = from[i] * s.Scale;
        }

        for (int start = 0; start < tile.Seen; start += Chunk)
            AttendChunk(arrays, work, new(tables, tile, start, s), start + Chunk >= tile.Seen ? after : null);

        for (int r = 0; r < rows; r++)
        {
            float* to = arrays.Output + (firstRow + r / group) * s.OutputRow + (tile.Head * group + r % group) * d;
            float scale = 1 / work.Total[r];
            for (int i = 0; i < d; i++)
                to[i] = work.Sum[r * d + i] * scale;
        }
    }

    /// <summary>Positions Start .. of a tile's sequence, <see cref="Chunk"/> at most.</summary>
    private readonly record struct Positions(int[] Tables, Tile Tile, int Start, Shape Shape)
    {
        public int Seen => Math.Min(Chunk, Tile.Seen - Start);

        /// <summary>Where the head's part of the block with position Start + at begins.</summary>
        public nint Place(int at) =>
            Tables[Tile.Segment.Table + (Start + at) / Shape.BlockSize] * Shape.BlockElements
            + Tile.Head * Shape.HeadElements;
    }

    /// <summary>
    /// The online softmax over one chunk of positions: scores, their weights, and the weighted values.
    /// </summary>
    private static void AttendChunk(Arrays arrays, Work work, Positions positions, Tile? after)
    {
        var (tables, tile, start, s) = positions;
        float* keys = arrays.Keys,
            values = arrays.Values;
        int d = s.Dimension,
            group = s.Group,
            rows = tile.Queries * group,
            padded = (rows + 3) / 4 * 4,
            seen = positions.Seen;
        if (start == 0)
            Prefetch(keys + positions.Place(0), s);
        for (int at = 0; at < seen; at += 2 * Lanes)
        {
            int other = at + Lanes < seen ? at + Lanes : at; // an odd last group is computed twice
            for (int ahead = at + 2 * Lanes; ahead < Math.Min(at + 4 * Lanes, seen); ahead += s.BlockSize)
                Prefetch(keys + positions.Place(ahead), s);
            Prefetch(values + positions.Place(at), s);
            if (other != at)
                Prefetch(values + positions.Place(other), s);
            float* k0 = keys + positions.Place(at) + (start + at) % s.BlockSize,
                k1 = keys + positions.Place(other) + (start + other) % s.BlockSize,
                scores = work.Scores;
            for (int r = 0; r < padded; r += 4)
                Scores4x2(
                    work.Query + r * d,
                    d,
                    k0,
                    k1,
                    s.BlockSize,
                    scores + r * Chunk + at,
                    scores + r * Chunk + other
                );
        }

        for (int r = 0; r < padded; r++)
        {
            int visible = r < rows ? tile.Segment.Start + tile.First + r / group + 1 - start : 0;
            float* scores = work.Scores + r * Chunk;
            Softmax(scores, Math.Min(visible, seen), seen, ref work.Max[r], ref work.Total[r], work.Sum + r * d, d);
        }

        for (int at = 0; at < seen; at += Lanes)
        {
            if (after is { } next && at < next.Seen)
                Prefetch(
                    keys + tables[next.Segment.Table + at / s.BlockSize] * s.BlockElements + next.Head * s.HeadElements,
                    s
                );
            float* v = values + positions.Place(at) + (start + at) % s.BlockSize * d;
            int terms = Math.Min(Lanes, seen - at);
            SmallProduct.Multiply(work.Scores + at, Chunk, 1, v, d, work.Sum, d, padded, d, terms, add: true);
        }
    }

    /// <summary>
    /// Prefetches a head's part of a block, K or V (1.5 times the speed on cold blocks): the hardware's own
    /// prefetching ends at a page's end.
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
            s00 = Vector512.FusedMultiplyAdd(x, a, s00);
            s01 = Vector512.FusedMultiplyAdd(x, b, s01);
            x = Vector512.Create(q1[i]);
            s10 = Vector512.FusedMultiplyAdd(x, a, s10);
            s11 = Vector512.FusedMultiplyAdd(x, b, s11);
            x = Vector512.Create(q2[i]);
            s20 = Vector512.FusedMultiplyAdd(x, a, s20);
            s21 = Vector512.FusedMultiplyAdd(x, b, s21);
            x = Vector512.Create(q3[i]);
            s30 = Vector512.FusedMultiplyAdd(x, a, s30);
            s31 = Vector512.FusedMultiplyAdd(x, b, s31);
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

    /// <summary>
    /// Scores of one query become exp(score − max); those beyond <paramref name="visible"/>, up to
    /// <paramref name="seen"/>, become 0.
    /// </summary>
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
}
