// Attention of one new token a sequence over its paged KV cache. Memory traffic is all the cost, so everything here
// serves a steady stream of loads. The work is one line of units (row, kv head, tile of 16 keys), cut into equal
// pieces, one a warp, whatever the lengths of the sequences. A warp keeps several tiles in flight to shared memory,
// also across the border of two sequences. All query heads of a kv head share each load and are the rows of a
// tensor-core product (FlashAttention's online softmax, Dao et al. 2022; grouped queries, Ainslie et al. 2023). A
// piece that ends inside a sequence leaves its part in memory, and the warp that arrives last merges the parts by
// their log-sum-exps (Flash-Decoding, Dao et al. 2023), always in the same order. Reference:
// Cpu/Attention/PagedAttention.cs.

#include "Prelude.cuh"

constexpr int Tile = 16, Warps = 4, Chunks = HEAD_DIM / 8; // a chunk is 16 bytes
constexpr int StageElements = 2 * Tile * HEAD_DIM + GROUP * HEAD_DIM; // keys, values, queries
constexpr bool Upper = GROUP > 8; // whether rows 8 .. 15 of the product are used

/// A unit of the line: tile `tile` of `tiles` of a row and kv head; `length` keys of the row lie in the blocks of
/// `slot`.
struct Place
{
    int row, head, tile, tiles, length, slot;

    __device__ __forceinline__ void enter(const int* slots, const int* positions)
    {
        slot = slots[row];
        length = positions[row] + 1;
        tiles = (length + Tile - 1) / Tile;
    }

    __device__ __forceinline__ void advance(int rows, const int* slots, const int* positions)
    {
        if (++tile < tiles) return;
        tile = 0;
        if (++head < KV_HEADS) return;
        head = 0;
        if (++row < rows) enter(slots, positions);
    }
};

/// Where 16 bytes of a row lie in shared memory. Rows are permuted so that 8 rows of one column lie in different banks.
__device__ __forceinline__ int swizzled(int row, int chunk) { return row * HEAD_DIM + (chunk ^ (row % 8)) * 8; }

/// Rows that pad a step are zeros: what computes with them later stays finite.
__device__ __forceinline__ void clear_padding(ELEMENT* out, int rows, int paddedRows)
{
    constexpr int Width = GROUP * KV_HEADS * HEAD_DIM;
    i64 end = (i64)paddedRows * Width;
    for (i64 i = (i64)rows * Width + blockIdx.x * blockDim.x + threadIdx.x; i < end; i += gridDim.x * blockDim.x)
        out[i] = from_float<ELEMENT>(0.0f);
}

/// Where warp w leaves its part of a sequence and head. Two of its pieces can be parts: the one at its beginning (0) and
/// the one at its end (1).
__device__ __forceinline__ i64 part_of(int w, int firstWarp, int perWarp, int firstUnit)
{
    return 2 * w + (w > firstWarp || w * perWarp == firstUnit ? 0 : 1);
}

/// qkv [rows, qkvRow], rotated; positions [rows]: of each row's token; out [rows, KV_HEADS · GROUP · HEAD_DIM], up to
/// paddedRows of them.
/// parts [2 · warps, GROUP, HEAD_DIM], sums [2 · warps, GROUP] (max, sum), arrived [rows · KV_HEADS], zero before and
/// after. Grid: any number of blocks of 128 threads; plan and starts are prepare_step's.
/// Dynamic shared memory: 4 · STAGES · StageElements elements.
extern "C" __global__ void __launch_bounds__(Warps * 32) paged_decode(
    const ELEMENT* qkv, ELEMENT* out, const ELEMENT* keys, const ELEMENT* values, const int* tables, int tableStride,
    const int* slots, const int* positions, const int* plan, const int* tilesBefore, const int4* starts, float* parts,
    float2* sums, int* arrived, float scale, int paddedRows
)
{
    DYNAMIC_SHARED(memory);
    int lane = threadIdx.x % 32, warp = blockIdx.x * Warps + threadIdx.x / 32;
    int rows = plan[0], perWarp = plan[2], units = tilesBefore[rows] * KV_HEADS;
    int begin = warp * perWarp, end = min(units, begin + perWarp);
    if (begin >= end)
    {
        wait_for_previous_kernel();
        clear_padding(out, rows, paddedRows);
        return;
    }
    ELEMENT* stages = (ELEMENT*)memory + threadIdx.x / 32 * STAGES * StageElements;
    float toBase2 = scale * 1.44269504f;

    Place computing, fetching;
    int4 start = starts[2 * warp], startRow = starts[2 * warp + 1];
    computing.row = start.x;
    computing.head = start.y;
    computing.tile = start.z;
    computing.tiles = start.w;
    computing.length = startRow.x;
    computing.slot = startRow.y;
    fetching = computing;
    int fetchingBlock = startRow.z, fetched = begin;

    // The queries of a unit that begins a row and head; later units of the piece use the registers that it filled.
    auto fetch_queries = [&](int unit, const Place& place)
    {
        if (place.tile > 0 && unit > begin) return; // the same as the unit before
        ELEMENT* to = stages + (unit - begin) % STAGES * StageElements + 2 * Tile * HEAD_DIM;
        const ELEMENT* query = qkv + ((i64)place.row * (GROUP + 2) * KV_HEADS + place.head * GROUP) * HEAD_DIM;
        for (int c = lane; c < GROUP * Chunks; c += 32)
            copy_async16(to + swizzled(c / Chunks, c % Chunks), query + c * 8, true);
    };

    // Starts the copies of unit `fetched`, and looks up where the unit after it lies.
    auto fetch = [&](bool queries)
    {
        if (fetched < end)
        {
            ELEMENT* stage = stages + (fetched - begin) % STAGES * StageElements;
            i64 place = (((i64)fetchingBlock * KV_HEADS + fetching.head) * BLOCK + fetching.tile * Tile % BLOCK) *
                        HEAD_DIM;
#pragma unroll
            for (int c = lane; c < Tile * Chunks; c += 32)
            {
                int key = c / Chunks;

                // Memory after the end may hold anything, and 0 · NaN is NaN.
                bool exists = fetching.tile * Tile + key < fetching.length;
                copy_async16(stage + swizzled(key, c % Chunks), keys + place + c * 8, exists);
                copy_async16(stage + Tile * HEAD_DIM + swizzled(key, c % Chunks), values + place + c * 8, exists);
            }
            if (queries) fetch_queries(fetched, fetching);
            fetching.advance(rows, slots, positions);
            if (++fetched < end)
                fetchingBlock = tables[(i64)fetching.slot * tableStride + fetching.tile * Tile / BLOCK];
        }
        commit_copies(); // an empty group too, because waiting counts groups
    };

    // The plan and old keys were written before the previous kernel, so their loads need not wait for it. The queries
    // and a sequence's newest key, in its last tile, are what that kernel writes.
    int earlyTiles = 0;
    for (; earlyTiles < STAGES - 1 && fetched < end && fetching.tile < fetching.tiles - 1; earlyTiles++) fetch(false);
    wait_for_previous_kernel();
    let_next_kernel_start();
    clear_padding(out, rows, paddedRows);
    Place withoutQueries = computing;
    for (int i = 0; i < earlyTiles; i++)
    {
        fetch_queries(begin + i, withoutQueries);
        withoutQueries.advance(rows, slots, positions);
    }
    for (int i = earlyTiles; i < STAGES - 1; i++) fetch(true);

    int row = lane / 4, column = lane % 4 * 2; // of the products' accumulators
    float mixed[HEAD_DIM / 8][4], highest[2], total[2];
    u32 query[HEAD_DIM / 16][4];
    for (int unit = begin; unit < end; unit++)
    {
        // The oldest stage must be complete. The early tiles' queries were copied later, in a separate group.
        if (unit == begin && earlyTiles > 0)
        {
            commit_copies();
            wait_copies<0>();
        }
        else
            wait_copies<STAGES - 2>();

        // From here every lane sees all lanes' copies of this stage, and no lane still reads the stage that is filled
        // next.
        __syncwarp();
        fetch(true);
        const ELEMENT* stage = stages + (unit - begin) % STAGES * StageElements;

        // A new row or head: its queries into registers, an empty softmax.
        if (computing.tile == 0 || unit == begin)
        {
            const ELEMENT* q = stage + 2 * Tile * HEAD_DIM;
#pragma unroll
            for (int k = 0; k < HEAD_DIM / 16; k++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                {
                    query[k][2 * half] = row < GROUP ? *(const u32*)(q + swizzled(row, 2 * k + half) + column) : 0;
                    query[k][2 * half + 1] = Upper && row + 8 < GROUP
                                                 ? *(const u32*)(q + swizzled(row + 8, 2 * k + half) + column)
                                                 : 0;
                }
            highest[0] = highest[1] = -INFINITY_F;
            total[0] = total[1] = 0;
#pragma unroll
            for (int j = 0; j < HEAD_DIM / 8; j++) mixed[j][0] = mixed[j][1] = mixed[j][2] = mixed[j][3] = 0;
        }

        // Scores: [16 query heads, keys 0 .. 7 and 8 .. 15].
        float score[2][4] = {};
#pragma unroll
        for (int k = 0; k < HEAD_DIM / 16; k++)
        {
            u32 key[4];
            load_matrices(key, stage + swizzled(lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
            mma<ELEMENT>(score[0], query[k], key[0], key[1]);
            mma<ELEMENT>(score[1], query[k], key[2], key[3]);
        }
        bool last = computing.tile == computing.tiles - 1;
        if (last) // keys after the end
#pragma unroll
            for (int half = 0; half < 2; half++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    if (computing.tile * Tile + half * 8 + column + i % 2 >= computing.length)
                        score[half][i] = -INFINITY_F;

        // Online softmax. Accumulators 0 and 1 belong to `row`, 2 and 3 to row + 8.
        u32 weights[4];
#pragma unroll
        for (int r = 0; r < 2; r++)
        {
            if (r == 1 && !Upper)
            {
                weights[1] = weights[3] = 0;
                continue;
            }
            float *a = score[0] + 2 * r, *b = score[1] + 2 * r;
            float top = fmaxf(fmaxf(a[0], a[1]), fmaxf(b[0], b[1]));
            top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 1));
            top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 2));
            top = fmaxf(top * toBase2, highest[r]); // finite: a tile has at least one key
            float shrink = exp2_fast(highest[r] - top);
            highest[r] = top;
            float p0 = exp2_fast(a[0] * toBase2 - top), p1 = exp2_fast(a[1] * toBase2 - top),
                  p2 = exp2_fast(b[0] * toBase2 - top), p3 = exp2_fast(b[1] * toBase2 - top);
            total[r] = total[r] * shrink + (p0 + p1 + p2 + p3);
            weights[r] = pack2<ELEMENT>(p0, p1);
            weights[2 + r] = pack2<ELEMENT>(p2, p3);
#pragma unroll
            for (int j = 0; j < HEAD_DIM / 8; j++)
            {
                mixed[j][2 * r] *= shrink;
                mixed[j][2 * r + 1] *= shrink;
            }
        }
#pragma unroll
        for (int j = 0; j < HEAD_DIM / 16; j++)
        {
            u32 value[4];
            load_matrices_transposed(
                value, stage + Tile * HEAD_DIM + swizzled(lane / 8 % 2 * 8 + lane % 8, 2 * j + lane / 16)
            );
            mma<ELEMENT>(mixed[2 * j], weights, value[0], value[1]);
            mma<ELEMENT>(mixed[2 * j + 1], weights, value[2], value[3]);
        }

        // The piece of this row and head ends here: store it, or leave it as a part and merge if all parts are there.
        if (last || unit == end - 1)
        {
            int firstUnit = unit - computing.tile;
            int firstWarp = firstUnit / perWarp, lastWarp = (firstUnit + computing.tiles - 1) / perWarp;
#pragma unroll
            for (int r = 0; r < 2; r++)
            {
                total[r] += __shfl_xor_sync(FULL_WARP, total[r], 1);
                total[r] += __shfl_xor_sync(FULL_WARP, total[r], 2);
            }
            bool holdsResult = true;
            if (firstWarp != lastWarp)
            {
                i64 part = part_of(warp, firstWarp, perWarp, firstUnit);
#pragma unroll
                for (int r = 0; r < (Upper ? 2 : 1); r++)
                {
                    int g = row + 8 * r;
                    if (g >= GROUP) continue;
                    float* to = parts + (part * GROUP + g) * HEAD_DIM + column;
#pragma unroll
                    for (int j = 0; j < HEAD_DIM / 8; j++)
                        *(float2*)(to + 8 * j) = make_float2(mixed[j][2 * r], mixed[j][2 * r + 1]);
                    if (lane % 4 == 0) sums[part * GROUP + g] = make_float2(highest[r], total[r]);
                }

                // The part must be visible to all multiprocessors before it is counted.
                __threadfence();
                __syncwarp();
                int partsBefore = 0;
                if (lane == 0) partsBefore = atomicAdd(arrived + computing.row * KV_HEADS + computing.head, 1);
                partsBefore = __shfl_sync(FULL_WARP, partsBefore, 0);
                holdsResult = partsBefore == lastWarp - firstWarp;
                if (holdsResult)
                {
                    // All parts were counted, so after this fence all of them are visible.
                    __threadfence();
                    if (lane == 0) arrived[computing.row * KV_HEADS + computing.head] = 0; // for the next launch
#pragma unroll
                    for (int r = 0; r < (Upper ? 2 : 1); r++)
                    {
                        int g = row + 8 * r;

                        // First the maximum over all parts, 4 lanes at a time. Then no load waits for the one before it.
                        float top = -INFINITY_F;
                        for (int w = firstWarp + lane % 4; w <= lastWarp; w += 4)
                            top = fmaxf(
                                top,
                                load_shared_l2(
                                    (const float*)(sums + part_of(w, firstWarp, perWarp, firstUnit) * GROUP + min(g, GROUP - 1))
                                )
                            );
                        top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 1));
                        top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 2));
                        total[r] = 0;
#pragma unroll
                        for (int j = 0; j < HEAD_DIM / 8; j++) mixed[j][2 * r] = mixed[j][2 * r + 1] = 0;
                        if (g >= GROUP) continue;
#pragma unroll 4
                        for (int w = firstWarp; w <= lastWarp; w++)
                        {
                            i64 other = part_of(w, firstWarp, perWarp, firstUnit) * GROUP + g;
                            float rescale = exp2_fast(load_shared_l2((const float*)(sums + other)) - top);
                            total[r] += load_shared_l2((const float*)(sums + other) + 1) * rescale;
                            const float* from = parts + other * HEAD_DIM + column;
#pragma unroll
                            for (int j = 0; j < HEAD_DIM / 8; j++)
                            {
                                float2 otherMixed = load_shared_l2((const float2*)(from + 8 * j));
                                mixed[j][2 * r] += otherMixed.x * rescale;
                                mixed[j][2 * r + 1] += otherMixed.y * rescale;
                            }
                        }
                    }
                }
            }
            if (holdsResult)
#pragma unroll
                for (int r = 0; r < (Upper ? 2 : 1); r++)
                {
                    int g = row + 8 * r;
                    if (g >= GROUP) continue;
                    ELEMENT* to = out +
                                  ((i64)computing.row * GROUP * KV_HEADS + computing.head * GROUP + g) * HEAD_DIM +
                                  column;
                    float share = 1 / total[r];
#pragma unroll
                    for (int j = 0; j < HEAD_DIM / 8; j++)
                        *(u32*)(to + 8 * j) = pack2<ELEMENT>(mixed[j][2 * r] * share, mixed[j][2 * r + 1] * share);
                }
        }
        computing.advance(rows, slots, positions);
    }
}
