// Selection of a row's k-th largest number, or of the one at which a mass is reached, by the bits of the numbers, 11 at a
// time. For blocks of 512 threads.

constexpr int Threads = 512, RadixBins = 2048;

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

constexpr float MassUnit = 1099511627776.0f; // 2⁴⁰

/// Weights are added as integers, so that a row's result does not depend on the order of threads.
__device__ __forceinline__ u64 mass_of(float x, float max, float toBase2)
{
    return (u64)(exp2f((x - max) * toBase2) * MassUnit);
}

/// The key of the smallest number in the smallest set of largest ones whose count, or mass, reaches `wanted`. Only keys
/// ≥ least count. x is in shared or global memory.
__device__ u32 select_key(
    const float* x, int count, u32 least, bool byMass, u64 wanted, float max, float toBase2, u64* bins, u64* shared
)
{
    u32 prefix = 0, decided = 0; // the bits that are decided, and their mask
    for (int shift = 21;; shift -= shift == 21 ? 11 : 10)
    {
        int width = shift == 21 || shift == 10 ? 11 : 10;
        for (int i = threadIdx.x; i < RadixBins; i += Threads) bins[i] = 0;
        __syncthreads(); // all bins are empty
        for (int i = threadIdx.x; i < count; i += Threads)
        {
            u32 key = key_of(x[i]);
            if (key < least || (key & decided) != prefix) continue;
            u64 amount = byMass ? mass_of(x[i], max, toBase2) : 1;
            if (amount) atomicAdd(bins + (key >> shift & ((1u << width) - 1)), amount);
        }
        __syncthreads(); // all keys are counted

        // Thread t holds 4 bins, the largest keys first. A scan over the block finds the bin in which `wanted` is
        // reached.
        u64 own = 0;
        for (int i = 0; i < RadixBins / Threads; i++)
            own += bins[RadixBins - 1 - (threadIdx.x * (RadixBins / Threads) + i)];
        u64 before = prefix_sum(own, shared + 2);
        if (threadIdx.x == 0) shared[0] = ~0ull;
        __syncthreads(); // no bin has been found
        if (before < wanted && before + own >= wanted)
            for (int i = 0; i < RadixBins / Threads; i++)
            {
                int bin = RadixBins - 1 - (threadIdx.x * (RadixBins / Threads) + i);
                before += bins[bin];
                if (before < wanted) continue;
                shared[0] = bin;
                shared[1] = wanted - (before - bins[bin]);
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
