// Random weights for benchmarks: normal numbers by Box and Muller's method from a hash of each place.

#include "Prelude.cuh"

/// to[i] ~ N(mean, scale²), a function of (seed, i). Grid: any.
extern "C" __global__ void random_fill(ELEMENT* to, i64 count, float mean, float scale, u32 seed)
{
    wait_for_previous_kernel();
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (i64)gridDim.x * blockDim.x)
    {
        u64 x = ((u64)i + 1) * 0x9E3779B97F4A7C15ull + (u64)seed * 0xD1B54A32D192ED03ull; // SplitMix64
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
        x = (x ^ x >> 27) * 0x94D049BB133111EBull;
        x ^= x >> 31;
        float u = ((float)(u32)x + 1.0f) * 2.3283062e-10f, v = (float)(u32)(x >> 32) * 2.3283064e-10f;
        to[i] = from_float<ELEMENT>(mean + scale * sqrtf(-2 * logf(u)) * cosf(6.2831853f * v));
    }
}
