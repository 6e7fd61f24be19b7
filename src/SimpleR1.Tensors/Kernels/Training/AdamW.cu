// The gradient's norm in a fixed order, and AdamW (Loshchilov and Hutter 2019) in one pass. Reference: Cpu/AdamW.cs.

#include "Prelude.cuh"
#include "Reductions.cuh"

constexpr int NormChunk = 1 << 14;

/// Sum of squares of each chunk of 2¹⁴. Grid: chunks of 256 threads.
extern "C" __global__ void __launch_bounds__(256) sum_of_squares(const float* x, i64 length, double* sums)
{
    __shared__ double scratch[32];
    wait_for_previous_kernel();
    let_next_kernel_start();
    i64 first = (i64)blockIdx.x * NormChunk;
    int count = (int)min((i64)NormChunk, length - first);
    const float4* v = (const float4*)(x + first);
    float part[4] = {};
#pragma unroll 4
    for (int i = threadIdx.x; i < count / 4; i += 256)
    {
        float4 a = v[i];
        part[0] += a.x * a.x;
        part[1] += a.y * a.y;
        part[2] += a.z * a.z;
        part[3] += a.w * a.w;
    }
    for (int i = count / 4 * 4 + threadIdx.x; i < count; i += 256) part[0] += x[first + i] * x[first + i];
    double sum = block_sum((double)part[0] + part[1] + part[2] + part[3], scratch);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

/// The sum of all chunks. Grid: one block of 1,024 threads.
extern "C" __global__ void __launch_bounds__(1024) sum_of_sums(const double* sums, int chunks, double* total)
{
    __shared__ double scratch[32];
    wait_for_previous_kernel();
    let_next_kernel_start();
    double sum = 0;
    for (int i = threadIdx.x; i < chunks; i += 1024) sum += sums[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) *total = sum;
}

/// The numbers of an update. keep: what weight decay leaves of a weight. rate, root: the learning rate and the
/// variance's root, corrected for the bias of the moments.
struct Numbers
{
    float scale, rate, root, keep, beta1, beta2, rest1, rest2, epsilon;
};

#define NUMBERS                                                                                                        \
    float scale, float rate, float root, float keep, float beta1, float beta2, float rest1, float rest2, float epsilon

/// The weight after one update; changes its moments.
__device__ __forceinline__ float updated(float weight, float gradient, float& mean, float& variance, const Numbers& n)
{
    float slope = gradient * n.scale;
    mean = mean * n.beta1 + slope * n.rest1;
    variance = variance * n.beta2 + slope * slope * n.rest2;
    return weight * n.keep - mean * n.rate / (sqrtf(variance) * n.root + n.epsilon);
}

/// Updates f32 weights. length % 8 == 0. Grid: ceil(length / 2048) blocks of 256 threads.
extern "C" __global__ void __launch_bounds__(256)
    adamw(float* weight, const float* gradient, float* mean, float* variance, i64 length, NUMBERS)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    Numbers n = {scale, rate, root, keep, beta1, beta2, rest1, rest2, epsilon};
    i64 i = ((i64)blockIdx.x * 256 + threadIdx.x) * 8;
    if (i >= length) return;
    Eight<float> w = *(Eight<float>*)(weight + i), g = *(const Eight<float>*)(gradient + i),
                 m = *(Eight<float>*)(mean + i), v = *(Eight<float>*)(variance + i);
    for (int k = 0; k < 8; k++) w.at[k] = updated(w.at[k], g.at[k], m.at[k], v.at[k], n);
    *(Eight<float>*)(weight + i) = w;
    *(Eight<float>*)(mean + i) = m;
    *(Eight<float>*)(variance + i) = v;
}

/// Updates f32 weights that are bf16 weights and a 16-bit remainder (see MasterWeights.cu). length % 8 == 0. Grid:
/// ceil(length / 2048) blocks of 256 threads.
extern "C" __global__ void __launch_bounds__(256)
    adamw_split(u16* weight, u16* remainder, const float* gradient, float* mean, float* variance, i64 length, NUMBERS)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    Numbers n = {scale, rate, root, keep, beta1, beta2, rest1, rest2, epsilon};
    i64 i = ((i64)blockIdx.x * 256 + threadIdx.x) * 8;
    if (i >= length) return;
    Eight<u16> w = *(Eight<u16>*)(weight + i), r = *(Eight<u16>*)(remainder + i);
    Eight<float> g = *(const Eight<float>*)(gradient + i), m = *(Eight<float>*)(mean + i),
                 v = *(Eight<float>*)(variance + i);
    for (int k = 0; k < 8; k++)
    {
        u32 bits = ((u32)w.at[k] << 16) + (u32)(int)(short)r.at[k];
        bits = __float_as_uint(updated(__uint_as_float(bits), g.at[k], m.at[k], v.at[k], n));
        u32 high = (bits + 0x8000u) >> 16;
        w.at[k] = (u16)high;
        r.at[k] = (u16)(bits - (high << 16));
    }
    *(Eight<u16>*)(weight + i) = w;
    *(Eight<u16>*)(remainder + i) = r;
    *(Eight<float>*)(mean + i) = m;
    *(Eight<float>*)(variance + i) = v;
}
