// The gradient's norm in a fixed order, and AdamW (Loshchilov and Hutter 2019) in one pass. Reference: Cpu/AdamW.cs.

#include "Prelude.cuh"
#include "Reductions.cuh"

constexpr int NormChunk = 1 << 14;
/// Sum of squares of each chunk of 2^14, in a fixed order. Grid: chunks of 256 threads.
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
/// One block: the norm, and the factor that clips it to `limit` (0: no limit); a factor of NaN says that the gradient is not finite.
extern "C" __global__ void __launch_bounds__(1024) clip_factor(const double* sums, int chunks, float limit, double* norm, float* factor)
{
    __shared__ double scratch[32];
    wait_for_previous_kernel();
    let_next_kernel_start();
    double sum = 0;
    for (int i = threadIdx.x; i < chunks; i += 1024) sum += sums[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x != 0) return;
    double root = sqrt(sum);
    *norm = root;
    *factor = !(root <= 3.0e38) ? NAN_F : limit > 0 && root > limit ? (float)(limit / root) : 1.0f;
}
struct AdamWNumbers { float rate, root, keep, beta1, beta2, rest1, rest2, epsilon; };
/// One AdamW step where the bf16 weights and a 16-bit remainder are together the f32 master. length % 8 == 0.
/// Grid: ceil(length / 2048) blocks of 256 threads.
extern "C" __global__ void __launch_bounds__(256) adamw_split(
    u16* weight, u16* remainder, const float* gradient, float* mean, float* variance, i64 length, const float* factor, AdamWNumbers n)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    float scale = *factor;
    if (isnan(scale)) return; // not finite: everything stays as it was
    i64 i = ((i64)blockIdx.x * 256 + threadIdx.x) * 8;
    if (i + 8 > length) return;
    Eight<u16> w = *(Eight<u16>*)(weight + i), r = *(Eight<u16>*)(remainder + i);
    Eight<float> g = *(const Eight<float>*)(gradient + i), m = *(Eight<float>*)(mean + i), v = *(Eight<float>*)(variance + i);
    for (int k = 0; k < 8; k++)
    {
        u32 bits = ((u32)w.at[k] << 16) + (u32)(int)(short)r.at[k];
        float slope = g.at[k] * scale;
        m.at[k] = m.at[k] * n.beta1 + slope * n.rest1;
        v.at[k] = v.at[k] * n.beta2 + slope * slope * n.rest2;
        float master = __uint_as_float(bits) * n.keep - m.at[k] * n.rate / (sqrtf(v.at[k]) * n.root + n.epsilon);
        bits = __float_as_uint(master);
        u32 high = (bits + 0x8000u) >> 16;
        w.at[k] = (u16)high;
        r.at[k] = (u16)(bits - (high << 16));
    }
    *(Eight<u16>*)(weight + i) = w;
    *(Eight<u16>*)(remainder + i) = r;
    *(Eight<float>*)(mean + i) = m;
    *(Eight<float>*)(variance + i) = v;
}
