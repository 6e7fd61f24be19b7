// Paged attention in plain f32 arithmetic, for any element type, head size and group. It runs where the tensor-core
// kernels do not (f32, head sizes other than 64 and 128), and they are compared with it.
// Reference: Cpu/Attention/PagedAttention.cs.

#include "Prelude.cuh"
#include "Reductions.cuh"

/// Row t of qkv is the token at position positions[t] of slot slots[t] (−1: padding, not written) and sees keys 0 ..
/// its own. Grid: (tokens, HEADS) of 32 threads.
extern "C" __global__ void plain_attention(
    const ELEMENT* qkv, ELEMENT* out, const ELEMENT* keys, const ELEMENT* values, const int* tables, int tableStride,
    const int* slots, const i64* positions, float scale
)
{
    constexpr int PerLane = (HEAD_DIM + 31) / 32;
    __shared__ float query[HEAD_DIM];
    wait_for_previous_kernel();
    let_next_kernel_start();
    int token = blockIdx.x, head = blockIdx.y, lane = threadIdx.x, slot = slots[token];
    if (slot < 0) return;
    int length = (int)positions[token] + 1, kv = head / GROUP;
    const ELEMENT* q = qkv + ((i64)token * (HEADS + 2 * KV_HEADS) + head) * HEAD_DIM;
    for (int i = lane; i < HEAD_DIM; i += 32) query[i] = to_float(q[i]) * scale;
    __syncwarp(); // the query is complete
    float mixed[PerLane] = {}, highest = -INFINITY_F, total = 0; // the same total in all lanes
    for (int first = 0; first < length; first += 32)
    {
        int position = first + lane;
        float score = -INFINITY_F;
        i64 place = 0;
        if (position < length)
        {
            place = (((i64)tables[(i64)slot * tableStride + position / BLOCK] * KV_HEADS + kv) * BLOCK +
                     position % BLOCK) *
                    HEAD_DIM;
            score = 0;
            for (int i = 0; i < HEAD_DIM; i++) score += query[i] * to_float(keys[place + i]);
        }
        float top = score;
        for (int step = 16; step > 0; step >>= 1) top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, step));
        top = fmaxf(top, highest);
        float shrink = expf(highest - top), weight = expf(score - top);
        highest = top;
        total = total * shrink + warp_sum(weight);
        for (int n = 0; n < PerLane; n++) mixed[n] *= shrink;
        for (int k = 0; k < min(32, length - first); k++)
        {
            float p = __shfl_sync(FULL_WARP, weight, k);
            i64 from = __shfl_sync(FULL_WARP, place, k);
            for (int n = 0; n < PerLane; n++)
                if (n * 32 + lane < HEAD_DIM) mixed[n] += p * to_float(values[from + n * 32 + lane]);
        }
    }
    ELEMENT* to = out + ((i64)token * HEADS + head) * HEAD_DIM;
    for (int n = 0; n < PerLane; n++)
        if (n * 32 + lane < HEAD_DIM) to[n * 32 + lane] = from_float<ELEMENT>(mixed[n] / total);
}
