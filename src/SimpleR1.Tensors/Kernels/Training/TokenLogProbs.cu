// Log-prob of the chosen token and entropy of each row of logits in one pass, and the gradient in place.
// Reference: Cpu/Layers/LogProbs.cs.

#include "Prelude.cuh"
#include "Reductions.cuh"

/// Of some logits x: the largest, Σ e with e = exp(x − top), and Σ e · (x − top).
struct Softmax
{
    float top, sum, weighted;
};

__device__ __forceinline__ Softmax merge(Softmax a, Softmax b)
{
    float top = fmaxf(a.top, b.top);
    float da = a.top == top ? 0.0f : a.top - top, db = b.top == top ? 0.0f : b.top - top;
    float ra = __expf(da), rb = __expf(db);

    // An empty part has sum 0 and top −∞: 0 · −∞ must not appear.
    float wa = a.sum > 0 ? (a.weighted + a.sum * da) * ra : 0.0f,
          wb = b.sum > 0 ? (b.weighted + b.sum * db) * rb : 0.0f;
    return {top, a.sum * ra + b.sum * rb, wa + wb};
}

/// logits [rows, vocabulary] f32 → log-prob of the chosen token, log of the sum, entropy. vocabulary % 4 == 0. Grid:
/// one block a row.
extern "C" __global__ void __launch_bounds__(512) token_log_probs(
    const float* logits, const i64* chosen, float* logProb, float* logSum, float* entropy, int vocabulary,
    float inverseTemperature
)
{
    __shared__ Softmax parts[16];
    wait_for_previous_kernel();
    let_next_kernel_start();
    const float4* x = (const float4*)(logits + (i64)blockIdx.x * vocabulary);
    Softmax mine = {-INFINITY_F, 0, 0};
    int quads = vocabulary / 4;
#pragma unroll 2
    for (int i = threadIdx.x; i < quads; i += blockDim.x)
    {
        float4 v = x[i];
        v.x *= inverseTemperature;
        v.y *= inverseTemperature;
        v.z *= inverseTemperature;
        v.w *= inverseTemperature;
        float top = fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w));
        if (top > mine.top)
        {
            float shrink = mine.sum > 0 ? __expf(mine.top - top) : 0.0f;
            mine.weighted = mine.sum > 0 ? (mine.weighted + mine.sum * (mine.top - top)) * shrink : 0.0f;
            mine.sum *= shrink;
            mine.top = top;
        }
        float a = v.x - mine.top, b = v.y - mine.top, c = v.z - mine.top, d = v.w - mine.top;
        float ea = __expf(a), eb = __expf(b), ec = __expf(c), ed = __expf(d);
        mine.sum += (ea + eb) + (ec + ed);
        mine.weighted += (ea * a + eb * b) + (ec * c + ed * d);
    }
    for (int step = 16; step > 0; step >>= 1)
    {
        Softmax other;
        other.top = __shfl_xor_sync(FULL_WARP, mine.top, step);
        other.sum = __shfl_xor_sync(FULL_WARP, mine.sum, step);
        other.weighted = __shfl_xor_sync(FULL_WARP, mine.weighted, step);
        mine = threadIdx.x & step ? merge(other, mine) : merge(mine, other); // the same order in both lanes
    }
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = mine;
    __syncthreads(); // all warps' parts are written
    if (threadIdx.x == 0)
    {
        for (int p = 1; p < blockDim.x / 32; p++) mine = merge(mine, parts[p]);
        float log = logf(mine.sum), all = mine.top + log;
        logSum[blockIdx.x] = all;
        logProb[blockIdx.x] = logits[(i64)blockIdx.x * vocabulary + chosen[blockIdx.x]] * inverseTemperature - all;
        entropy[blockIdx.x] = log - mine.weighted / mine.sum;
    }
}

/// Replaces logits by d loss / d logits in ELEMENT: row r begins where it did, at byte 4 · r · vocabulary.
/// vocabulary % 8 == 0. Grid: one block a row. The results of a tile overwrite logits that this tile or one before has
/// read: hence the barrier between the two.
extern "C" __global__ void __launch_bounds__(512) token_log_probs_gradient(
    float* logits, const i64* chosen, const float* logSum, const float* dLogProb, int vocabulary,
    float inverseTemperature
)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    const Eight<float>* x = (const Eight<float>*)(logits + (i64)blockIdx.x * vocabulary);
    Eight<ELEMENT>* to = (Eight<ELEMENT>*)(logits + (i64)blockIdx.x * vocabulary);
    float slope = dLogProb[blockIdx.x] * inverseTemperature, log = logSum[blockIdx.x];
    int target = (int)chosen[blockIdx.x], eights = vocabulary / 8;
    Eight<float> next;
    if ((int)threadIdx.x < eights) next = x[threadIdx.x];
    for (int first = 0; first < eights; first += blockDim.x)
    {
        int i = first + threadIdx.x, after = i + blockDim.x;
        Eight<float> v = next;
        if (after < eights) next = x[after];
        __syncthreads(); // all have read what is overwritten now
        if (i >= eights) continue;
        Eight<ELEMENT> out;
        for (int k = 0; k < 8; k++)
        {
            float p = __expf(v.at[k] * inverseTemperature - log);
            out.at[k] = from_float<ELEMENT>(slope * ((8 * i + k == target ? 1.0f : 0.0f) - p));
        }
        to[i] = out;
    }
}
