// Top-k, top-p and min-p as one number a row: the smallest logit that is kept. It is found by selection over the bits of
// the numbers, 11 at a time, by count or by mass, never by sorting. Logits equal to that number are all kept.
// Reference: Cpu/SamplingFilters.cs.

#include "Prelude.cuh"
#include "Reductions.cuh"
#include "SlotParameters.cuh"

constexpr int Threads = 512, Bins = 2048;

/// Numbers in the order of floats: larger logits have larger keys. −∞ and masked tokens have the smallest.
__device__ __forceinline__ u32 key_of(float x)
{
    u32 bits = __float_as_uint(x);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float value_of(u32 key)
{
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

/// Weights are added as integers, so that a row's result does not depend on the order of threads.
__device__ __forceinline__ u64 mass_of(float x, float max, float toBase2)
{
    return (u64)(exp2f((x - max) * toBase2) * 1099511627776.0f); // 2⁴⁰
}

/// The key of the smallest logit in the smallest set of largest logits whose count, or mass, reaches `wanted`. Only keys
/// ≥ least count.
__device__ u32 select_key(
    const float* x, int vocabulary, u32 least, bool byMass, u64 wanted, float max, float toBase2, u64* bins, u64* shared
)
{
    u32 prefix = 0, decided = 0; // the bits that are decided, and their mask
    for (int shift = 21;; shift -= shift == 21 ? 11 : 10)
    {
        int width = shift == 21 || shift == 10 ? 11 : 10;
        for (int i = threadIdx.x; i < Bins; i += Threads) bins[i] = 0;
        __syncthreads(); // all bins are empty
        for (int i = threadIdx.x; i < vocabulary; i += Threads)
        {
            u32 key = key_of(x[i]);
            if (key < least || (key & decided) != prefix) continue;
            u64 amount = byMass ? mass_of(x[i], max, toBase2) : 1;
            if (amount) atomicAdd(bins + (key >> shift & ((1u << width) - 1)), amount);
        }
        __syncthreads(); // all keys are counted

        // Thread t holds 4 bins, the largest keys first. A scan over the block finds the bin in which `wanted` is
        // reached.
        u64 ownMass = 0;
        for (int i = 0; i < Bins / Threads; i++) ownMass += bins[Bins - 1 - (threadIdx.x * (Bins / Threads) + i)];
        u64 massBefore = ownMass;
        for (int step = 1; step < 32; step <<= 1)
        {
            u64 otherMass = __shfl_up_sync(FULL_WARP, massBefore, step);
            if (threadIdx.x % 32 >= step) massBefore += otherMass;
        }
        if (threadIdx.x % 32 == 31) shared[2 + threadIdx.x / 32] = massBefore;
        if (threadIdx.x == 0) shared[0] = ~0ull;
        __syncthreads(); // all warps' sums are there, and no bin has been found
        for (int warp = 0; warp < threadIdx.x / 32; warp++) massBefore += shared[2 + warp];
        massBefore -= ownMass;
        if (massBefore < wanted && massBefore + ownMass >= wanted)
            for (int i = 0; i < Bins / Threads; i++)
            {
                int bin = Bins - 1 - (threadIdx.x * (Bins / Threads) + i);
                massBefore += bins[bin];
                if (massBefore < wanted) continue;
                shared[0] = bin;
                shared[1] = wanted - (massBefore - bins[bin]);
                break;
            }
        __syncthreads(); // the bin has been found, by one thread
        if (shared[0] == ~0ull) return least; // rounding left a little mass that no token has
        prefix |= (u32)shared[0] << shift;
        decided |= ((1u << width) - 1) << shift;
        wanted = shared[1];
        __syncthreads(); // all threads have read it: bins and shared may be written again
        if (shift == 0) return prefix;
    }
}

/// thresholds[row] for each row: top-k first, then top-p on the mass that is left, then min-p. Grid: one block of 512
/// threads a row.
extern "C" __global__ void __launch_bounds__(Threads) filter_thresholds(
    const float* logits, int vocabulary, const int* slots, const Parameters* parameters, float* thresholds
)
{
    __shared__ u64 bins[Bins], shared[2 + Threads / 32];
    __shared__ float tops[Threads / 32];
    wait_for_previous_kernel();
    let_next_kernel_start();
    int row = blockIdx.x, slot = slots[row];
    if (slot < 0) return;
    const Parameters p = parameters[slot];
    const float* x = logits + (i64)row * vocabulary;
    float toBase2 = p.scale * 1.44269504f, threshold = -INFINITY_F;
    if (!p.greedy && (p.topK > 0 || p.topP < 1 || p.minP > 0))
    {
        float max = -INFINITY_F;
        for (int i = threadIdx.x; i < vocabulary; i += Threads) max = fmaxf(max, x[i]);
        for (int step = 16; step > 0; step >>= 1) max = fmaxf(max, __shfl_xor_sync(FULL_WARP, max, step));
        if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = max;
        __syncthreads(); // all warps' maxima are there
        for (int i = 0; i < Threads / 32; i++) max = fmaxf(max, tops[i]);
        u32 least = 0;
        if (p.topK > 0 && p.topK < vocabulary)
            least = select_key(x, vocabulary, 0, false, p.topK, max, toBase2, bins, shared);
        if (p.topP < 1)
        {
            u64 mass = 0;
            for (int i = threadIdx.x; i < vocabulary; i += Threads)
                if (key_of(x[i]) >= least) mass += mass_of(x[i], max, toBase2);
            mass = block_sum(mass, bins);
            __syncthreads(); // bins may be written again
            u64 wanted = (u64)((double)mass * p.topP);
            least = select_key(x, vocabulary, least, true, wanted > 0 ? wanted : 1, max, toBase2, bins, shared);
        }
        if (least > 0) threshold = value_of(least);
        if (p.minP > 0) threshold = fmaxf(threshold, (float)(max + log((double)p.minP) / p.scale));
    }
    if (threadIdx.x == 0) thresholds[row] = threshold;
}
