// Causal attention of many new tokens a sequence over its paged KV cache, which already holds their own keys and values.
// A block computes one kv head for a run of tokens. The rows of its products are (token, query head) pairs, so that
// grouped queries share loads of K and V (FlashAttention-2, Dao 2023). Reference: Cpu/Attention/PagedAttention.cs.

#include "Prelude.cuh"

constexpr int Keys = 64, Warps = 4, Rows = 16 * Warps, Chunks = HEAD_DIM / 8;

__device__ __forceinline__ int swizzled(int row, int chunk) { return row * HEAD_DIM + (chunk ^ (row % 8)) * 8; }

/// items: {first row of qkv, tokens (≤ 64 / GROUP), position of the first, slot}; the rest as in paged_decode.
/// Grid: (items, KV_HEADS) of 128 threads. Dynamic shared memory: 4 · 64 · HEAD_DIM elements.
extern "C" __global__ void __launch_bounds__(Warps * 32) paged_prefill(
    const ELEMENT* qkv, ELEMENT* out, const ELEMENT* keys, const ELEMENT* values, const int* tables, int tableStride,
    const int4* items, float scale
)
{
    DYNAMIC_SHARED(memory);
    wait_for_previous_kernel();
    int4 item = items[blockIdx.x];
    int head = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int length = item.z + item.y, tiles = (length + Keys - 1) / Keys; // keys that the last token sees
    const int* table = tables + (i64)item.w * tableStride;
    ELEMENT* stages = (ELEMENT*)memory;
    float toBase2 = scale * 1.44269504f;

    // Starts the copies of a tile's keys and values into the stage of its parity.
    auto fetch = [&](int tile)
    {
        if (tile < tiles)
        {
            ELEMENT* stage = stages + tile % 2 * 2 * Keys * HEAD_DIM;
            for (int c = threadIdx.x; c < Keys * Chunks; c += Warps * 32)
            {
                int key = c / Chunks, position = tile * Keys + key;
                bool exists = position < length;
                i64 block = exists ? table[position / BLOCK] : 0;
                i64 place = ((block * KV_HEADS + head) * BLOCK + position % BLOCK) * HEAD_DIM + c % Chunks * 8;
                copy_async16(stage + swizzled(key, c % Chunks), keys + place, exists);
                copy_async16(stage + Keys * HEAD_DIM + swizzled(key, c % Chunks), values + place, exists);
            }
        }
        commit_copies();
    };
    fetch(0);

    // Accumulators 0 and 1 belong to pair[0], 2 and 3 to pair[1]. A pair beyond the item computes with zeros and is not
    // stored.
    int column = lane % 4 * 2, pair[2], token[2];
#pragma unroll
    for (int r = 0; r < 2; r++)
    {
        pair[r] = warp * 16 + lane / 4 + 8 * r;
        token[r] = pair[r] / GROUP;
    }
    u32 query[HEAD_DIM / 16][4];
#pragma unroll
    for (int r = 0; r < 2; r++)
    {
        const ELEMENT* q = qkv +
                           ((i64)(item.x + token[r]) * (GROUP + 2) * KV_HEADS + head * GROUP + pair[r] % GROUP) *
                               HEAD_DIM +
                           column;
#pragma unroll
        for (int k = 0; k < HEAD_DIM / 16; k++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                query[k][2 * half + r] = token[r] < item.y ? *(const u32*)(q + 16 * k + 8 * half) : 0;
    }

    float mixed[HEAD_DIM / 8][4] = {}, highest[2] = {-INFINITY_F, -INFINITY_F}, total[2] = {};

    for (int tile = 0; tile < tiles; tile++)
    {
        fetch(tile + 1);

        // This tile has arrived, for all threads; only the next one is still in flight.
        wait_copies<1>();
        __syncthreads();
        const ELEMENT* stage = stages + tile % 2 * 2 * Keys * HEAD_DIM;
        float score[Keys / 8][4] = {};
#pragma unroll
        for (int k = 0; k < HEAD_DIM / 16; k++)
#pragma unroll
            for (int n = 0; n < Keys / 16; n++)
            {
                u32 key[4];
                load_matrices(key, stage + swizzled(n * 16 + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
                mma<ELEMENT>(score[2 * n], query[k], key[0], key[1]);
                mma<ELEMENT>(score[2 * n + 1], query[k], key[2], key[3]);
            }

        // Online softmax.
        u32 weights[Keys / 16][4];
#pragma unroll
        for (int r = 0; r < 2; r++)
        {
            int seen = item.z + token[r] - tile * Keys; // key `seen` of this tile is the token itself
            float top = -INFINITY_F;
#pragma unroll
            for (int n = 0; n < Keys / 8; n++)
#pragma unroll
                for (int i = 0; i < 2; i++)
                {
                    if (n * 8 + column + i > seen) score[n][2 * r + i] = -INFINITY_F;
                    top = fmaxf(top, score[n][2 * r + i]);
                }
            top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 1));
            top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 2));
            top = fmaxf(top * toBase2, highest[r]); // finite from the first tile on: every token sees key 0
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
#pragma unroll
        for (int n = 0; n < Keys / 16; n++)
#pragma unroll
            for (int j = 0; j < HEAD_DIM / 16; j++)
            {
                u32 value[4];
                load_matrices_transposed(
                    value, stage + Keys * HEAD_DIM + swizzled(n * 16 + lane / 8 % 2 * 8 + lane % 8, 2 * j + lane / 16)
                );
                mma<ELEMENT>(mixed[2 * j], weights[n], value[0], value[1]);
                mma<ELEMENT>(mixed[2 * j + 1], weights[n], value[2], value[3]);
            }
        __syncthreads(); // no thread still reads this stage: the next turn fills it again
    }
    let_next_kernel_start();
#pragma unroll
    for (int r = 0; r < 2; r++)
    {
        total[r] += __shfl_xor_sync(FULL_WARP, total[r], 1);
        total[r] += __shfl_xor_sync(FULL_WARP, total[r], 2);
        if (token[r] >= item.y) continue;
        float share = 1 / total[r];
        ELEMENT* to = out + ((i64)(item.x + token[r]) * GROUP * KV_HEADS + head * GROUP + pair[r] % GROUP) * HEAD_DIM +
                      column;
#pragma unroll
        for (int j = 0; j < HEAD_DIM / 8; j++)
            *(u32*)(to + 8 * j) = pack2<ELEMENT>(mixed[j][2 * r] * share, mixed[j][2 * r + 1] * share);
    }
}
