// The hash by which a worker proves which weights it holds: Σ over 64-bit words of mix(word ⊕ (index + 1)·φ), mod
// 2⁶⁴, so that any order of adding gives the same. With HELD it is the hash of the same numbers held in that type: a
// trainer in f32 knows what its workers in bf16 must prove, without a copy in bf16. Reference: WeightHash.Reference
// in SimpleR1.WeightSync.

#include "Prelude.cuh"
#include "Reductions.cuh"

#ifdef HELD
/// Word i of the weights as they are when held in HELD.
__device__ __forceinline__ u64 word(const ELEMENT* memory, i64 i)
{
    constexpr int n = sizeof(u64) / sizeof(HELD);
    union
    {
        HELD at[n];
        u64 bits;
    } converted;
    for (int k = 0; k < n; k++) converted.at[k] = from_float<HELD>(to_float(memory[i * n + k]));
    return converted.bits;
}
#else
/// Word i of the weights, whatever their type is.
__device__ __forceinline__ u64 word(const ELEMENT* memory, i64 i) { return ((const u64*)memory)[i]; }
#endif

/// Adds the hash of `words` words to *sum. Grid: any.
extern "C" __global__ void weight_hash(const ELEMENT* memory, i64 words, u64* sum)
{
    wait_for_previous_kernel(); // it may have written weights
    u64 total = 0;
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < words; i += (i64)gridDim.x * blockDim.x)
    {
        u64 x = word(memory, i) ^ (u64)(i + 1) * 0x9E3779B97F4A7C15ull;
        x = (x ^ x >> 33) * 0xFF51AFD7ED558CCDull;
        x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53ull;
        total += x ^ x >> 33;
    }
    total = warp_sum(total);
    if (threadIdx.x % 32 == 0) atomicAdd(sum, total);
}
