// The rotary embedding (Su et al. 2021) of packed tokens, and Qwen3's norm of each q and k head, forward and backward.
// References: Cpu/Layers/Rotary.cs, CpuKernels.QueryKeyNorm. qkv [tokens, (HEADS + 2 · KV_HEADS) · HEAD_DIM].

#include "Prelude.cuh"
#include "Reductions.cuh"

constexpr int Half = HEAD_DIM / 2, PerLane = (HEAD_DIM + 31) / 32;
constexpr int TokenStride = (HEADS + 2 * KV_HEADS) * HEAD_DIM;
constexpr int Width = Half % 8 == 0 ? 8 : 1; // pairs of a thread

/// Numbers that a thread loads at a time.
template <class T>
struct __align__(Width == 8 ? 16 : alignof(T)) Some
{
    T at[Width];
};

/// Rotates q and k heads in place by each token's position: pairs (i, i + HEAD_DIM / 2). direction −1 is the inverse,
/// and so the gradient. cosine, sine: [positions, HEAD_DIM / 2]. Grid: one block a token.
extern "C" __global__ void rotary(
    ELEMENT* qkv, const float* cosine, const float* sine, const i64* positions, float direction
)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    i64 position = positions[blockIdx.x];
    for (int at = threadIdx.x * Width; at < (HEADS + KV_HEADS) * Half; at += blockDim.x * Width)
    {
        int i = at % Half;
        ELEMENT* head = qkv + (i64)blockIdx.x * TokenStride + at / Half * HEAD_DIM;
        Some<float> cos = *(const Some<float>*)(cosine + position * Half + i);
        Some<float> sin = *(const Some<float>*)(sine + position * Half + i);
        Some<ELEMENT> a = *(Some<ELEMENT>*)(head + i), b = *(Some<ELEMENT>*)(head + Half + i), x, y;
        for (int k = 0; k < Width; k++)
        {
            float va = to_float(a.at[k]), vb = to_float(b.at[k]), s = sin.at[k] * direction;
            x.at[k] = from_float<ELEMENT>(va * cos.at[k] - vb * s);
            y.at[k] = from_float<ELEMENT>(vb * cos.at[k] + va * s);
        }
        *(Some<ELEMENT>*)(head + i) = x;
        *(Some<ELEMENT>*)(head + Half + i) = y;
    }
}

/// y = qkv with each q and k head normalised; v heads are copied. Grid: one block a token.
extern "C" __global__ void query_key_norm(
    const ELEMENT* qkv, const ELEMENT* queryNorm, const ELEMENT* keyNorm, ELEMENT* y, float epsilon
)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    int token = blockIdx.x, lane = threadIdx.x % 32;
    for (int head = threadIdx.x / 32; head < HEADS + 2 * KV_HEADS; head += blockDim.x / 32)
    {
        i64 start = (i64)token * TokenStride + head * HEAD_DIM;
        const ELEMENT* norm = head < HEADS ? queryNorm : keyNorm;
        bool isValue = head >= HEADS + KV_HEADS;
        float x[PerLane], squares = 0;
        for (int n = 0; n < PerLane; n++)
        {
            int i = n * 32 + lane;
            x[n] = i < HEAD_DIM ? to_float(qkv[start + i]) : 0.0f;
            squares += x[n] * x[n];
        }
        float scale = rsqrtf(warp_sum(squares) / HEAD_DIM + epsilon);
        for (int n = 0; n < PerLane; n++)
        {
            int i = n * 32 + lane;
            if (i < HEAD_DIM)
                y[start + i] = isValue ? qkv[start + i] : from_float<ELEMENT>(x[n] * scale * to_float(norm[i]));
        }
    }
}

constexpr int Warps = 4;

/// Writes dQkv. partial [gridDim.x, 2, HEAD_DIM] f32: each block's part of the gradients of queryNorm and keyNorm.
/// Grid: any number of blocks of Warps warps, which take tokens in turn.
extern "C" __global__ void __launch_bounds__(32 * Warps) query_key_norm_gradient(
    const ELEMENT* qkv, const ELEMENT* queryNorm, const ELEMENT* keyNorm, const ELEMENT* dy, ELEMENT* dQkv,
    float* partial, int tokens, float epsilon
)
{
    __shared__ float parts[Warps][2][HEAD_DIM];
    wait_for_previous_kernel();
    let_next_kernel_start();
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float dQuery[PerLane] = {}, dKey[PerLane] = {};
    for (int token = blockIdx.x; token < tokens; token += gridDim.x)
        for (int head = warp; head < HEADS + 2 * KV_HEADS; head += Warps)
        {
            i64 start = (i64)token * TokenStride + head * HEAD_DIM;
            if (head >= HEADS + KV_HEADS)
            {
                for (int i = lane; i < HEAD_DIM; i += 32) dQkv[start + i] = dy[start + i];
                continue;
            }
            const ELEMENT* norm = head < HEADS ? queryNorm : keyNorm;
            float x[PerLane], slope[PerLane], squares = 0, products = 0;
            for (int n = 0; n < PerLane; n++)
            {
                int i = n * 32 + lane;
                x[n] = i < HEAD_DIM ? to_float(qkv[start + i]) : 0.0f;
                slope[n] = i < HEAD_DIM ? to_float(dy[start + i]) : 0.0f;
                squares += x[n] * x[n];
                products += i < HEAD_DIM ? x[n] * slope[n] * to_float(norm[i]) : 0.0f;
            }
            float scale = rsqrtf(warp_sum(squares) / HEAD_DIM + epsilon),
                  back = warp_sum(products) * scale * scale / HEAD_DIM;
            for (int n = 0; n < PerLane; n++)
            {
                int i = n * 32 + lane;
                if (i >= HEAD_DIM) break;
                float own = slope[n] * x[n] * scale;
                if (head < HEADS)
                    dQuery[n] += own;
                else
                    dKey[n] += own;
                dQkv[start + i] = from_float<ELEMENT>(scale * (slope[n] * to_float(norm[i]) - x[n] * back));
            }
        }
    for (int n = 0; n < PerLane; n++)
    {
        int i = n * 32 + lane;
        if (i >= HEAD_DIM) break;
        parts[warp][0][i] = dQuery[n];
        parts[warp][1][i] = dKey[n];
    }
    __syncthreads(); // all warps have written their parts
    for (int i = threadIdx.x; i < 2 * HEAD_DIM; i += 32 * Warps)
    {
        float sum = 0;
        for (int w = 0; w < Warps; w++) sum += parts[w][i / HEAD_DIM][i % HEAD_DIM];
        partial[(i64)blockIdx.x * 2 * HEAD_DIM + i] = sum;
    }
}
