// Causal attention of segments packed one after another, for training (FlashAttention-2, Dao 2023). The rows of a segment
// see its prefix too: its keys come first, so that the prefix needs no tile and no mask of its own.
// Reference: Cpu/Attention/PackedAttentionKernel.cs.

#include "Prelude.cuh"
#include "PackedAttention.cuh"

/// Grid: (items, KV_HEADS).
/// Dynamic shared memory: 4 · Keys · HEAD_DIM elements.
extern "C" __global__ void __launch_bounds__(RowThreads)
    packed_attention(const ELEMENT* qkv, ELEMENT* out, float* logSum, const RowTile* items, float scale)
{
    DYNAMIC_SHARED(memory);
    wait_for_previous_kernel();
    RowTile item = items[blockIdx.x];
    SeenKeys seen = item.seen();
    int kv = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int rows = item.tokens * GROUP, firstRow = item.firstRow;
    int lastKey = seen.before + (min(firstRow + TileRows, rows) - 1) / GROUP, tiles = lastKey / Keys + 1;
    ELEMENT* stages = (ELEMENT*)memory;
    float toBase2 = scale * Log2E;
    const ELEMENT* queries = qkv + (i64)item.first * TokenStride + kv * GROUP * HEAD_DIM;
    const ELEMENT* keys = qkv + (GROUP * KV_HEADS + kv) * HEAD_DIM;
    const ELEMENT* values = keys + KV_HEADS * HEAD_DIM;

    auto fetch = [&](int tile)
    {
        if (tile < tiles)
        {
            ELEMENT* stage = stages + tile % 2 * 2 * Keys * HEAD_DIM;
            fetch_keys<RowThreads>(stage, keys, seen, tile * Keys);
            fetch_keys<RowThreads>(stage + Keys * HEAD_DIM, values, seen, tile * Keys);
        }
        commit_copies();
    };

    // The queries go through the second stage, which is free until the second tile.
    ELEMENT* queryTile = stages + 2 * Keys * HEAD_DIM;
    fetch_rows<RowThreads>(queryTile, queries, TokenStride, firstRow, rows, TileRows);
    commit_copies();
    fetch(0);
    wait_copies<1>();
    __syncthreads();
    u32 query[Steps][4];
    load_left(query, queryTile, warp * 16);
    __syncthreads(); // every warp has its queries: the second stage may be filled

    int column = lane % 4 * 2, row[2], own[2]; // own: the row's own key, the last that it sees
#pragma unroll
    for (int r = 0; r < 2; r++)
    {
        row[r] = firstRow + warp * 16 + lane / 4 + 8 * r;
        own[r] = seen.before + row[r] / GROUP;
    }
    float mixed[HEAD_DIM / 8][4] = {}, highest[2] = {-INFINITY_F, -INFINITY_F}, total[2] = {};
    int unmasked = (seen.before + firstRow / GROUP) / Keys; // tiles before it are seen by every row

    for (int tile = 0; tile < tiles; tile++)
    {
        fetch(tile + 1);
        wait_copies<1>();
        __syncthreads(); // the tile's copies of all threads have arrived
        const ELEMENT* stage = stages + tile % 2 * 2 * Keys * HEAD_DIM;
        float score[Keys / 8][4] = {};
        times_transposed<Keys / 8>(score, query, stage);
        u32 weights[Keys / 16][4];
#pragma unroll
        for (int r = 0; r < 2; r++)
        {
            float top = -INFINITY_F;
            if (tile >= unmasked)
            {
                int last = own[r] - tile * Keys;
#pragma unroll
                for (int n = 0; n < Keys / 8; n++)
#pragma unroll
                    for (int i = 0; i < 2; i++)
                        if (n * 8 + column + i > last) score[n][2 * r + i] = -INFINITY_F;
            }
#pragma unroll
            for (int n = 0; n < Keys / 8; n++) top = fmaxf(top, fmaxf(score[n][2 * r], score[n][2 * r + 1]));
            top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 1));
            top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 2));
            top = fmaxf(top * toBase2, highest[r]); // finite from the first tile on: every row sees key 0
            float shrink = exp2_fast(highest[r] - top), sum = 0;
            highest[r] = top;
#pragma unroll
            for (int n = 0; n < Keys / 8; n++)
            {
                float p0 = exp2_fast(score[n][2 * r] * toBase2 - top),
                      p1 = exp2_fast(score[n][2 * r + 1] * toBase2 - top);
                sum += p0 + p1;
                weights[n / 2][n % 2 * 2 + r] = pack2<ELEMENT>(p0, p1);
            }
            total[r] = total[r] * shrink + sum;
#pragma unroll
            for (int j = 0; j < HEAD_DIM / 8; j++)
            {
                mixed[j][2 * r] *= shrink;
                mixed[j][2 * r + 1] *= shrink;
            }
        }
        times<Keys / 16>(mixed, weights, stage + Keys * HEAD_DIM);
        __syncthreads(); // before the stage is filled again
    }
    let_next_kernel_start();
#pragma unroll
    for (int r = 0; r < 2; r++)
    {
        total[r] += __shfl_xor_sync(FULL_WARP, total[r], 1);
        total[r] += __shfl_xor_sync(FULL_WARP, total[r], 2);
        if (row[r] >= rows) continue;
        float share = 1 / total[r];
        i64 place = (i64)(seen.shift + own[r]) * GROUP * KV_HEADS + kv * GROUP + row[r] % GROUP;
        if (logSum && lane % 4 == 0) logSum[place] = (highest[r] + log2f(total[r])) * Ln2;
        ELEMENT* to = out + place * HEAD_DIM + column;
#pragma unroll
        for (int j = 0; j < HEAD_DIM / 8; j++)
            *(u32*)(to + 8 * j) = pack2<ELEMENT>(mixed[j][2 * r] * share, mixed[j][2 * r + 1] * share);
    }
}
