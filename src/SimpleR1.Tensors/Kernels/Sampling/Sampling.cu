// The draw of a token in one pass over the logits: softmax's normaliser, and an exponential race, argmax of pᵢ / eᵢ
// with eᵢ ~ Exp(1), which is Gumbel-max without a second logarithm. The noise is the same function of (stream seed,
// output position, token) as on the CPU: see Cpu/Sampling.cs, the reference, and Cpu/Philox.cs. The reference's skip
// is here too: since e ≥ v, a token with p ≤ best · v can't win. Greedy rows take the largest logit, the smallest id
// among equals, and the normaliser at temperature 1.

#include "Prelude.cuh"
#include "SlotParameters.cuh"

/// What a block knows of its share of a row, and a row's result. Scores are logarithms: x · scale − ln e.
struct Share
{
    double score, sum; // of the leader; Σ exp((x − max) · scale)
    float max;
    int token, spoilt; // a logit was NaN or +∞
};

__device__ __forceinline__ void philox(u64 key, u32 c0, u32 c1, u32 (&words)[4])
{
    u32 k0 = (u32)key, k1 = (u32)(key >> 32), c2 = 0, c3 = 0;
#pragma unroll
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
    {
        u64 a = (u64)0xD2511F53u * c0, b = (u64)0xCD9E8D57u * c2;
        c0 = (u32)(b >> 32) ^ c1 ^ k0;
        c1 = (u32)b;
        c2 = (u32)(a >> 32) ^ c3 ^ k1;
        c3 = (u32)a;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

__device__ __forceinline__ bool beats(double score, int token, double other, int otherToken)
{
    return score > other || (score == other && token < otherToken);
}

__device__ __forceinline__ void merge(Share& mine, const Share& theirs, float scale)
{
    if (theirs.max > mine.max)
    {
        mine.sum = mine.sum * exp(((double)mine.max - theirs.max) * scale) + theirs.sum;
        mine.max = theirs.max;
    }
    else if (theirs.sum > 0)
        mine.sum += theirs.sum * exp(((double)theirs.max - mine.max) * scale);
    if (beats(theirs.score, theirs.token, mine.score, mine.token))
    {
        mine.score = theirs.score;
        mine.token = theirs.token;
    }
    mine.spoilt |= theirs.spoilt;
}

__device__ __forceinline__ double shuffle(double x, int step) { return __shfl_xor_sync(FULL_WARP, x, step); }

__device__ __forceinline__ Share across(const Share& s, int step)
{
    Share other;
    other.score = shuffle(s.score, step);
    other.sum = shuffle(s.sum, step);
    other.max = __shfl_xor_sync(FULL_WARP, s.max, step);
    other.token = __shfl_xor_sync(FULL_WARP, s.token, step);
    other.spoilt = __shfl_xor_sync(FULL_WARP, s.spoilt, step);
    return other;
}

/// logits [rows, vocabulary]; row r is the next token of slot slots[r], after position positions[r]; thresholds
/// [rows] or null. results[r] = {token, bits of its log-prob}; token −1: a logit is not finite, −2: all are masked.
/// details[r] (or null) = {max, log of the sum, threshold, scale}. The token is also appended to its sequence in
/// `tokens`. Grid: (shares, rows); shares of a row meet in `meeting` [rows, shares]; arrived [rows] is 0 before and
/// after.
extern "C" __global__ void __launch_bounds__(512) sample(
    const float* logits, int vocabulary, const int* slots, const int* positions, const Parameters* parameters,
    const float* thresholds, int* tokens, int tokenStride, int2* results, float4* details, Share* meeting, int* arrived
)
{
    __shared__ Share shares[16];
    __shared__ int isLast;
    wait_for_previous_kernel();
    let_next_kernel_start();
    int row = blockIdx.y, slot = slots[row], lane = threadIdx.x % 32;
    if (slot < 0) return;
    const Parameters p = parameters[slot];
    const float* x = logits + (i64)row * vocabulary;
    float threshold = thresholds ? thresholds[row] : -INFINITY_F, scale = p.scale, toBase2 = scale * 1.44269504f;
    u64 seed = (u64)p.seedHigh << 32 | p.seedLow;
    u32 position = positions[row] + 1 - p.promptLength;

    // Each thread has its own maximum as frame: sums and weights are relative to exp(max · scale).
    // bar is the leader's p / e in this thread's frame, a little lowered.
    float max = -INFINITY_F, sum = 0, bar = 0, leading2 = -INFINITY_F;
    double wideSum = 0, best = -INFINITY_F;
    int winner = 0x7fffffff, spoilt = 0, groups = (vocabulary + 63) / 64 * 16, turn = 0;
    for (int first = blockIdx.x * blockDim.x; first < groups; first += gridDim.x * blockDim.x, turn++)
    {
        // Tokens token0 + {0, 16, 32, 48} share a Philox draw.
        int group = first + threadIdx.x, token0 = group / 16 * 64 + group % 16;
        float v[4], top = -INFINITY_F;
#pragma unroll
        for (int k = 0; k < 4; k++)
        {
            int token = token0 + 16 * k;
            v[k] = group < groups && token < vocabulary ? x[token] : -INFINITY_F;
            spoilt |= !(v[k] < INFINITY_F);
            if (!(v[k] >= threshold)) v[k] = -INFINITY_F;
            top = fmaxf(top, v[k]);
        }
        if (top > max) // a new frame
        {
            float shrink = exp2_fast((max - top) * toBase2);
            sum *= shrink;
            wideSum *= shrink;
            max = top;
            bar = exp2_fast(leading2 - max * toBase2) * (1 - 1e-5f);
        }
        float weight[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
        {
            weight[k] = v[k] > -INFINITY_F ? exp2_fast((v[k] - max) * toBase2) : 0.0f;
            sum += weight[k];
        }
        if (p.greedy)
        {
#pragma unroll
            for (int k = 0; k < 4; k++)
                if (v[k] > -INFINITY_F && beats(v[k], token0 + 16 * k, best, winner))
                {
                    best = v[k];
                    winner = token0 + 16 * k;
                }
        }
        else
        {
            float heaviest = fmaxf(fmaxf(weight[0], weight[1]), fmaxf(weight[2], weight[3])), leading2Before = leading2;
            u32 words[4];
            if (heaviest * 8589934592.0f > bar) // v ≥ 2⁻³³
            {
                philox(seed, group, position, words);

                // No bar yet: e ≤ v / (1 − v) gives one without exact scores.
                if (turn == 0)
                {
                    float sure = 0;
#pragma unroll
                    for (int k = 0; k < 4; k++)
                    {
                        float least = (float)words[k] * 2.3283064e-10f + 1.1641532e-10f; // · 2⁻³² + 2⁻³³
                        sure = fmaxf(sure, weight[k] * (1 - least) / least);
                    }
                    leading2 = log2f(sure) + max * toBase2 - 1e-3f;
                }
            }
            if (turn == 0)
            {
                for (int step = 16; step > 0; step >>= 1)
                    leading2 = fmaxf(leading2, __shfl_xor_sync(FULL_WARP, leading2, step));
                bar = exp2_fast(leading2 - max * toBase2);
            }
            if (heaviest * 8589934592.0f > bar)
            {
#pragma unroll
                for (int k = 0; k < 4; k++)
                {
                    float least = (float)words[k] * 2.3283064e-10f + 1.1641532e-10f;
                    if (!(weight[k] > least * bar)) continue;
                    double e = -log1p(-((double)words[k] + 0.5) / 4294967296.0), score = (double)v[k] * scale - log(e);
                    leading2 = fmaxf(leading2, (float)(score * 1.4426950408889634));
                    if (!beats(score, token0 + 16 * k, best, winner)) continue;
                    best = score;
                    winner = token0 + 16 * k;
                }
            }

            // A higher bar for all lanes: only a few tokens a warp need exact scores.
            if (__any_sync(FULL_WARP, leading2 > leading2Before))
            {
                for (int step = 16; step > 0; step >>= 1)
                    leading2 = fmaxf(leading2, __shfl_xor_sync(FULL_WARP, leading2, step));
                bar = exp2_fast(leading2 - max * toBase2) * (1 - 1e-5f);
            }
        }
        if (turn % 8 == 7)
        {
            wideSum += sum; // f32 sums of many terms lose digits
            sum = 0;
        }
    }

    // The leader of the warp, then of the block.
    Share mine = {best, wideSum + sum, max, winner, spoilt};
    for (int step = 16; step > 0; step >>= 1) merge(mine, across(mine, step), scale);
    if (lane == 0) shares[threadIdx.x / 32] = mine;
    __syncthreads(); // all warps' shares are in shared memory
    if (threadIdx.x >= 32) return;
    int warps = blockDim.x / 32;
    Share noShare = {-INFINITY_F, 0, -INFINITY_F, 0x7fffffff, 0};
    mine = lane < warps ? shares[lane] : noShare;
    for (int step = 16; step > 0; step >>= 1) merge(mine, across(mine, step), scale);

    // The block that finishes a row's last share merges all of them.
    if (gridDim.x > 1)
    {
        if (lane == 0)
        {
            meeting[row * gridDim.x + blockIdx.x] = mine;
            __threadfence(); // the share is visible before it is counted
            isLast = atomicAdd(arrived + row, 1) == gridDim.x - 1;
            __threadfence(); // all counted shares are visible from here on
        }
        __syncwarp(); // isLast is lane 0's
        if (!isLast) return;
        mine = noShare;
        for (int i = lane; i < gridDim.x; i += 32)
        {
            const Share* from = meeting + row * gridDim.x + i;
            Share other;
            other.score = load_shared_l2(&from->score);
            other.sum = load_shared_l2(&from->sum);
            other.max = load_shared_l2(&from->max);
            other.token = load_shared_l2(&from->token);
            other.spoilt = load_shared_l2(&from->spoilt);
            merge(mine, other, scale);
        }
        for (int step = 16; step > 0; step >>= 1) merge(mine, across(mine, step), scale);
        if (lane == 0) arrived[row] = 0;
    }
    if (lane > 0) return;
    bool isDrawn = !mine.spoilt && mine.max > -INFINITY_F;
    double logSum = log(mine.sum);
    float logProb = isDrawn ? (float)(((double)x[mine.token] - mine.max) * scale - logSum) : 0.0f;
    results[row] = make_int2(isDrawn ? mine.token : mine.spoilt ? -1 : -2, __float_as_int(logProb));
    if (details) details[row] = make_float4(mine.max, (float)logSum, threshold, scale);
    tokens[(i64)slot * tokenStride + positions[row] + 1] = isDrawn ? mine.token : 0;
}
