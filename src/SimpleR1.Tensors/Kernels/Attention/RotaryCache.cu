// What happens to q, k and v between their projection and attention, in one pass: Qwen3's norm of each q and k head, the
// rotary embedding (Su et al. 2021), and the write of k and v into the paged cache.
// References: CpuKernels.QueryKeyNorm, Cpu/Layers/Rotary.cs, Cpu/Attention/PagedAttention.cs (Write).

#include "Prelude.cuh"
#include "Reductions.cuh"

/// qkv [tokens, (HEADS + 2 · KV_HEADS) · HEAD_DIM]: q is changed in place, k and v go to the cache. slots[token] < 0:
/// padding, nothing is written. keys, values: [blocks, KV_HEADS, BLOCK, HEAD_DIM]; tables: [slots, tableStride];
/// cosine, sine: [positions, HEAD_DIM / 2]. Grid: one block a token; a warp takes every (blockDim / 32)-th head.
extern "C" __global__ void rotary_cache(
    ELEMENT* qkv, const ELEMENT* queryNorm, const ELEMENT* keyNorm, float epsilon, const float* cosine,
    const float* sine, const i64* positions, const int* slots, const int* tables, int tableStride, ELEMENT* keys,
    ELEMENT* values
)
{
    constexpr int Half = HEAD_DIM / 2, PerLane = (Half + 31) / 32;
    wait_for_previous_kernel();
    let_next_kernel_start();
    int token = blockIdx.x, lane = threadIdx.x % 32, slot = slots[token];
    if (slot < 0) return;
    int position = (int)positions[token];
    i64 block = tables[(i64)slot * tableStride + position / BLOCK];
    const float *cos = cosine + (i64)position * Half, *sin = sine + (i64)position * Half;
    for (int head = threadIdx.x / 32; head < HEADS + 2 * KV_HEADS; head += blockDim.x / 32)
    {
        ELEMENT* x = qkv + ((i64)token * (HEADS + 2 * KV_HEADS) + head) * HEAD_DIM;
        int kv = head < HEADS + KV_HEADS ? head - HEADS : head - HEADS - KV_HEADS;
        i64 place = ((block * KV_HEADS + kv) * BLOCK + position % BLOCK) * HEAD_DIM;
        if (head >= HEADS + KV_HEADS)
        {
            for (int i = lane; i < HEAD_DIM; i += 32) values[place + i] = x[i];
            continue;
        }
        float a[PerLane], b[PerLane], squares = 0; // pairs (i, i + d/2)
        for (int n = 0; n < PerLane; n++)
        {
            int i = n * 32 + lane;
            a[n] = i < Half ? to_float(x[i]) : 0.0f;
            b[n] = i < Half ? to_float(x[i + Half]) : 0.0f;
            squares += a[n] * a[n] + b[n] * b[n];
        }
        const ELEMENT* norm = head < HEADS ? queryNorm : keyNorm;
        float scale = norm ? rsqrtf(warp_sum(squares) / HEAD_DIM + epsilon) : 1.0f;
        ELEMENT* to = head < HEADS ? x : keys + place;
        for (int n = 0; n < PerLane; n++)
        {
            int i = n * 32 + lane;
            if (i >= Half) break;
            float va = a[n], vb = b[n];
            if (norm)
            {
                va *= scale * to_float(norm[i]);
                vb *= scale * to_float(norm[i + Half]);
            }
            to[i] = from_float<ELEMENT>(va * cos[i] - vb * sin[i]);
            to[i + Half] = from_float<ELEMENT>(vb * cos[i] + va * sin[i]);
        }
    }
}
