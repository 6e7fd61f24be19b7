// Causal attention of packed sequences, forward and backward, without the matrix unit: for f32 and for head sizes that
// PackedAttention.cu does not know. A warp computes one row. Layouts as in PackedAttention.cuh.
// Reference: Cpu/Attention/PackedAttentionKernel.cs.

#include "Prelude.cuh"
#include "Reductions.cuh"

constexpr int PerLane = (HEAD_DIM + 31) / 32;
constexpr int TokenStride = (GROUP + 2) * KV_HEADS * HEAD_DIM;
constexpr int Heads = GROUP * KV_HEADS;
constexpr float Log2E = 1.44269504f, Ln2 = 0.69314718f;

__device__ __forceinline__ void load_head(float (&x)[PerLane], const ELEMENT* head)
{
    for (int n = 0; n < PerLane; n++)
    {
        int i = n * 32 + threadIdx.x % 32;
        x[n] = i < HEAD_DIM ? to_float(head[i]) : 0.0f;
    }
}

__device__ __forceinline__ void store_head(ELEMENT* head, const float (&x)[PerLane], float factor)
{
    for (int n = 0; n < PerLane; n++)
    {
        int i = n * 32 + threadIdx.x % 32;
        if (i < HEAD_DIM) head[i] = from_float<ELEMENT>(x[n] * factor);
    }
}

__device__ __forceinline__ float dot(const float (&a)[PerLane], const float (&b)[PerLane])
{
    float sum = 0;
    for (int n = 0; n < PerLane; n++) sum += a[n] * b[n];
    return warp_sum(sum);
}

/// spans: for each token {first token of its segment, first token of the prefix, tokens of that, end of the rows that see
/// the token}: it sees the prefix, then its segment up to itself. Grid: (tokens, Heads) of one warp.
extern "C" __global__ void plain_packed_attention(
    const ELEMENT* qkv, ELEMENT* out, float* logSum, const int4* spans, float scale
)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    int token = blockIdx.x, head = blockIdx.y;
    i64 keyHead = (Heads + head / GROUP) * HEAD_DIM;
    float query[PerLane], key[PerLane], value[PerLane], mixed[PerLane] = {}, highest = -INFINITY_F, total = 0;
    load_head(query, qkv + (i64)token * TokenStride + head * HEAD_DIM);
    int4 span = spans[token];
    for (int seen = 0; seen <= span.z + token - span.x; seen++)
    {
        int other = seen < span.z ? span.y + seen : span.x + seen - span.z;
        const ELEMENT* at = qkv + (i64)other * TokenStride + keyHead;
        load_head(key, at);
        load_head(value, at + KV_HEADS * HEAD_DIM);
        float score = dot(query, key) * scale * Log2E, top = fmaxf(highest, score);
        float shrink = exp2_fast(highest - top), p = exp2_fast(score - top);
        highest = top;
        total = total * shrink + p;
        for (int n = 0; n < PerLane; n++) mixed[n] = mixed[n] * shrink + p * value[n];
    }
    i64 place = (i64)token * Heads + head;
    store_head(out + place * HEAD_DIM, mixed, 1 / total);
    if (logSum && threadIdx.x == 0) logSum[place] = (highest + log2f(total)) * Ln2;
}

/// Gradient of the queries; delta = Σ out · dOut of each row. Grid: (tokens, Heads) of one warp.
extern "C" __global__ void plain_packed_attention_query_gradient(
    const ELEMENT* qkv, const ELEMENT* out, const ELEMENT* dOut, const float* logSum, float* delta, ELEMENT* dQkv,
    const int4* spans, float scale
)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    int token = blockIdx.x, head = blockIdx.y;
    i64 keyHead = (Heads + head / GROUP) * HEAD_DIM, place = (i64)token * Heads + head;
    float query[PerLane], key[PerLane], value[PerLane], result[PerLane], slope[PerLane], gradient[PerLane] = {};
    load_head(query, qkv + (i64)token * TokenStride + head * HEAD_DIM);
    load_head(result, out + place * HEAD_DIM);
    load_head(slope, dOut + place * HEAD_DIM);
    float sumOf = dot(result, slope), top = logSum[place] * Log2E;
    int4 span = spans[token];
    for (int seen = 0; seen <= span.z + token - span.x; seen++)
    {
        int other = seen < span.z ? span.y + seen : span.x + seen - span.z;
        const ELEMENT* at = qkv + (i64)other * TokenStride + keyHead;
        load_head(key, at);
        load_head(value, at + KV_HEADS * HEAD_DIM);
        float p = exp2_fast(dot(query, key) * scale * Log2E - top), dScore = p * (dot(slope, value) - sumOf);
        for (int n = 0; n < PerLane; n++) gradient[n] += dScore * key[n];
    }
    store_head(dQkv + (i64)token * TokenStride + head * HEAD_DIM, gradient, scale);
    if (threadIdx.x == 0) delta[place] = sumOf;
}

/// Gradients of the keys and values. Grid: (tokens, KV_HEADS) of one warp.
extern "C" __global__ void plain_packed_attention_key_gradient(
    const ELEMENT* qkv, const ELEMENT* dOut, const float* logSum, const float* delta, ELEMENT* dQkv, const int4* spans,
    float scale
)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    int token = blockIdx.x, kv = blockIdx.y;
    int4 span = spans[token];
    i64 own = (i64)token * TokenStride + (Heads + kv) * HEAD_DIM;
    float key[PerLane], value[PerLane], query[PerLane], slope[PerLane], dKey[PerLane] = {}, dValue[PerLane] = {};
    load_head(key, qkv + own);
    load_head(value, qkv + own + KV_HEADS * HEAD_DIM);
    for (int other = token; other < span.w; other++)
        for (int head = kv * GROUP; head < (kv + 1) * GROUP; head++)
        {
            i64 place = (i64)other * Heads + head;
            load_head(query, qkv + (i64)other * TokenStride + head * HEAD_DIM);
            load_head(slope, dOut + place * HEAD_DIM);
            float p = exp2_fast(dot(query, key) * scale * Log2E - logSum[place] * Log2E),
                  dScore = p * (dot(slope, value) - delta[place]);
            for (int n = 0; n < PerLane; n++)
            {
                dKey[n] += dScore * query[n];
                dValue[n] += p * slope[n];
            }
        }
    store_head(dQkv + own, dKey, scale);
    store_head(dQkv + own + KV_HEADS * HEAD_DIM, dValue, 1);
}
