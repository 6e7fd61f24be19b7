// Attention of one new token a sequence over its paged KV cache: all memory traffic, so everything serves a steady stream of loads.
// The work is one line of units (row, kv head, tile of 16 keys), cut into equal pieces, one a warp, whatever the lengths of the sequences.
// A warp keeps several tiles on their way to shared memory, also across the border of two sequences. All query heads of a kv head share
// each load and are the rows of a tensor-core product (FlashAttention's online softmax, Dao et al. 2022; grouped queries, Ainslie et al. 2023).
// Where a piece ends inside a sequence, the part is left in memory, and the warp that comes last merges the parts by their log-sum-exps
// (Flash-Decoding, Dao et al. 2023), always in the same order. Reference: Cpu/PagedAttention.cs.

#include "Prelude.cuh"

constexpr int Tile = 16, Warps = 4, Chunks = HEAD_DIM / 8; // a chunk is 16 bytes
constexpr int StageElements = 2 * Tile * HEAD_DIM + GROUP * HEAD_DIM; // keys, values, queries
constexpr bool Upper = GROUP > 8; // whether rows 8 .. 15 of the product are used

struct Place // in the line of units
{
    int row, head, tile, tiles, length, slot;

    __device__ __forceinline__ void enter(const int* slots, const int* at)
    {
        slot = slots[row];
        length = at[row] + 1;
        tiles = (length + Tile - 1) / Tile;
    }

    __device__ __forceinline__ void advance(int rows, const int* slots, const int* at)
    {
        if (++tile < tiles) return;
        tile = 0;
        if (++head < KV_HEADS) return;
        head = 0;
        if (++row < rows) enter(slots, at);
    }
};

/// Where 16 bytes of a row lie in shared memory: rows are permuted so that 8 rows of one column lie in different banks.
__device__ __forceinline__ int swizzled(int row, int chunk) { return row * HEAD_DIM + (chunk ^ (row % 8)) * 8; }

/// Where warp w leaves its part of a sequence and head: two of its pieces can be parts, the one at its beginning (0) and the one at its end (1).
__device__ __forceinline__ i64 part_of(int w, int firstWarp, int perWarp, int firstUnit) { return 2 * w + (w > firstWarp || w * perWarp == firstUnit ? 0 : 1); }

/// qkv [rows, qkvRow], rotated; at [rows]: position of each row's token; out [rows, KV_HEADS · GROUP · HEAD_DIM].
/// parts [2 · warps, GROUP, HEAD_DIM], sums [2 · warps, GROUP] (max, sum), arrived [rows · KV_HEADS], zero before and after.
/// Grid: any number of blocks of 128 threads; plan and starts are prepare_step's. Dynamic shared memory: 4 · STAGES · StageElements elements.
extern "C" __global__ void __launch_bounds__(Warps * 32) paged_decode(const ELEMENT* qkv, ELEMENT* out, const ELEMENT* keys, const ELEMENT* values,
    const int* tables, int tableStride, const int* slots, const int* at, const int* plan, const int* tilesBefore, const int4* starts,
    float* parts, float2* sums, int* arrived, float scale)
{
    DYNAMIC_SHARED(memory);
    int lane = threadIdx.x % 32, warp = blockIdx.x * Warps + threadIdx.x / 32;
    int rows = plan[0], perWarp = plan[2], units = tilesBefore[rows] * KV_HEADS;
    int begin = warp * perWarp, end = min(units, begin + perWarp);
    if (begin >= end)
    {
        wait_for_previous_kernel();
        return;
    }
    ELEMENT* stages = (ELEMENT*)memory + threadIdx.x / 32 * STAGES * StageElements;
    float toBase2 = scale * 1.44269504f;

    Place now, next;
    int4 start = starts[2 * warp], there = starts[2 * warp + 1];
    now.row = start.x; now.head = start.y; now.tile = start.z; now.tiles = start.w;
    now.length = there.x; now.slot = there.y;
    next = now;
    int nextBlock = there.z, fetched = begin;

    auto fetch_queries = [&](int unit, const Place& place)
    {
        if (place.tile > 0 && unit > begin) return; // those of the unit before
        ELEMENT* to = stages + (unit - begin) % STAGES * StageElements + 2 * Tile * HEAD_DIM;
        const ELEMENT* query = qkv + ((i64)place.row * (GROUP + 2) * KV_HEADS + place.head * GROUP) * HEAD_DIM;
        for (int c = lane; c < GROUP * Chunks; c += 32) copy_async16(to + swizzled(c / Chunks, c % Chunks), query + c * 8, true);
    };
    auto fetch = [&](bool queries) // starts the copies of unit `fetched`, and looks up where the one after it lies
    {
        if (fetched < end)
        {
            ELEMENT* stage = stages + (fetched - begin) % STAGES * StageElements;
            i64 place = (((i64)nextBlock * KV_HEADS + next.head) * BLOCK + next.tile * Tile % BLOCK) * HEAD_DIM;
#pragma unroll
            for (int c = lane; c < Tile * Chunks; c += 32)
            {
                int key = c / Chunks;
                bool there = next.tile * Tile + key < next.length; // what lies behind the end may be anything, and 0 · NaN is NaN
                copy_async16(stage + swizzled(key, c % Chunks), keys + place + c * 8, there);
                copy_async16(stage + Tile * HEAD_DIM + swizzled(key, c % Chunks), values + place + c * 8, there);
            }
            if (queries) fetch_queries(fetched, next);
            next.advance(rows, slots, at);
            if (++fetched < end) nextBlock = tables[(i64)next.slot * tableStride + next.tile * Tile / BLOCK];
        }
        commit_copies(); // an empty group too: waiting counts groups
    };
    // The plan and old keys are older than the kernel before this one, and their loads need not wait for it; queries and a sequence's newest key do.
    int early = 0;
    for (; early < STAGES - 1 && fetched < end && next.tile < next.tiles - 1; early++) fetch(false);
    wait_for_previous_kernel();
    let_next_kernel_start();
    Place again = now;
    for (int i = 0; i < early; i++)
    {
        fetch_queries(begin + i, again);
        again.advance(rows, slots, at);
    }
    for (int i = early; i < STAGES - 1; i++) fetch(true);

    int row = lane / 4, column = lane % 4 * 2; // of the products' accumulators
    float mixed[HEAD_DIM / 8][4], highest[2], total[2];
    u32 query[HEAD_DIM / 16][4];
    for (int unit = begin; unit < end; unit++)
    {
        if (unit == begin && early > 0) // with it the queries that came behind
        {
            commit_copies();
            wait_copies<0>();
        }
        else wait_copies<STAGES - 2>();
        __syncwarp(); // every lane's copies have arrived, and every lane is done with the stage that is filled next
        fetch(true);
        const ELEMENT* stage = stages + (unit - begin) % STAGES * StageElements;
        if (now.tile == 0 || unit == begin) // a new sequence or head
        {
            const ELEMENT* q = stage + 2 * Tile * HEAD_DIM;
#pragma unroll
            for (int k = 0; k < HEAD_DIM / 16; k++)
#pragma unroll
                for (int half = 0; half < 2; half++)
                {
                    query[k][2 * half] = row < GROUP ? *(const u32*)(q + swizzled(row, 2 * k + half) + column) : 0;
                    query[k][2 * half + 1] = Upper && row + 8 < GROUP ? *(const u32*)(q + swizzled(row + 8, 2 * k + half) + column) : 0;
                }
            highest[0] = highest[1] = -INFINITY_F;
            total[0] = total[1] = 0;
#pragma unroll
            for (int j = 0; j < HEAD_DIM / 8; j++) mixed[j][0] = mixed[j][1] = mixed[j][2] = mixed[j][3] = 0;
        }

        float score[2][4] = {}; // [16 query heads, keys 0 .. 7 and 8 .. 15]
#pragma unroll
        for (int k = 0; k < HEAD_DIM / 16; k++)
        {
            u32 key[4];
            load_matrices(key, stage + swizzled(lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
            mma<ELEMENT>(score[0], query[k], key[0], key[1]);
            mma<ELEMENT>(score[1], query[k], key[2], key[3]);
        }
        bool last = now.tile == now.tiles - 1;
        if (last) // keys behind the end
#pragma unroll
            for (int half = 0; half < 2; half++)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    if (now.tile * Tile + half * 8 + column + i % 2 >= now.length) score[half][i] = -INFINITY_F;
        u32 weights[4];
#pragma unroll
        for (int r = 0; r < 2; r++) // accumulators 0, 1 are of `row`, 2, 3 of row + 8
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
            float p0 = exp2_fast(a[0] * toBase2 - top), p1 = exp2_fast(a[1] * toBase2 - top), p2 = exp2_fast(b[0] * toBase2 - top), p3 = exp2_fast(b[1] * toBase2 - top);
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
            load_matrices_transposed(value, stage + Tile * HEAD_DIM + swizzled(lane / 8 % 2 * 8 + lane % 8, 2 * j + lane / 16));
            mma<ELEMENT>(mixed[2 * j], weights, value[0], value[1]);
            mma<ELEMENT>(mixed[2 * j + 1], weights, value[2], value[3]);
        }

        if (last || unit == end - 1) // the piece of this sequence and head ends here
        {
            int firstUnit = unit - now.tile;
            int firstWarp = firstUnit / perWarp, lastWarp = (firstUnit + now.tiles - 1) / perWarp;
#pragma unroll
            for (int r = 0; r < 2; r++)
            {
                total[r] += __shfl_xor_sync(FULL_WARP, total[r], 1);
                total[r] += __shfl_xor_sync(FULL_WARP, total[r], 2);
            }
            bool write = true;
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
                    for (int j = 0; j < HEAD_DIM / 8; j++) *(float2*)(to + 8 * j) = make_float2(mixed[j][2 * r], mixed[j][2 * r + 1]);
                    if (lane % 4 == 0) sums[part * GROUP + g] = make_float2(highest[r], total[r]);
                }
                __threadfence();
                __syncwarp();
                int before = 0;
                if (lane == 0) before = atomicAdd(arrived + now.row * KV_HEADS + now.head, 1);
                before = __shfl_sync(FULL_WARP, before, 0);
                write = before == lastWarp - firstWarp;
                if (write)
                {
                    __threadfence();
                    if (lane == 0) arrived[now.row * KV_HEADS + now.head] = 0; // for the next launch
#pragma unroll
                    for (int r = 0; r < (Upper ? 2 : 1); r++)
                    {
                        int g = row + 8 * r;
                        // First the maximum over all parts, 4 lanes at a time; then nothing that is loaded waits for what was loaded before.
                        float top = -INFINITY_F;
                        for (int w = firstWarp + lane % 4; w <= lastWarp; w += 4) top = fmaxf(top, load_shared_l2((const float*)(sums + part_of(w, firstWarp, perWarp, firstUnit) * GROUP + min(g, GROUP - 1))));
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
                            float grow = exp2_fast(load_shared_l2((const float*)(sums + other)) - top);
                            total[r] += load_shared_l2((const float*)(sums + other) + 1) * grow;
                            const float* from = parts + other * HEAD_DIM + column;
#pragma unroll
                            for (int j = 0; j < HEAD_DIM / 8; j++)
                            {
                                float2 theirs = load_shared_l2((const float2*)(from + 8 * j));
                                mixed[j][2 * r] += theirs.x * grow;
                                mixed[j][2 * r + 1] += theirs.y * grow;
                            }
                        }
                    }
                }
            }
            if (write)
#pragma unroll
                for (int r = 0; r < (Upper ? 2 : 1); r++)
                {
                    int g = row + 8 * r;
                    if (g >= GROUP) continue;
                    ELEMENT* to = out + ((i64)now.row * GROUP * KV_HEADS + now.head * GROUP + g) * HEAD_DIM + column;
                    float share = 1 / total[r];
#pragma unroll
                    for (int j = 0; j < HEAD_DIM / 8; j++) *(u32*)(to + 8 * j) = pack2<ELEMENT>(mixed[j][2 * r] * share, mixed[j][2 * r + 1] * share);
                }
        }
        now.advance(rows, slots, at);
    }
}
