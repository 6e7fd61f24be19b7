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

/// A sum of weights exp((x − max) · scale). They are added as integers, so that a row's result does not depend on the
/// order of threads: multiples of 2⁻²⁰, and of 2⁻⁴⁰ for the rest. Adding 1.5 · 2²³ units rounds to units and leaves
/// their number in the lowest bits; conversions are slower. A thread may add 2,047 weights.
struct Mass
{
    int high, low;

    __device__ __forceinline__ void add(float x, float max, float toBase2)
    {
        constexpr float High = 12.0f, Low = High / 1048576; // 1.5 · 2²³ units of 2⁻²⁰ and 2⁻⁴⁰
        float weight = exp2_fast((x - max) * toBase2);
        float rounded = weight + High;
        high += __float_as_int(rounded) - __float_as_int(High);
        low += __float_as_int(weight - (rounded - High) + Low) - __float_as_int(Low);
    }

    /// In units of 2⁻⁴⁰.
    __device__ __forceinline__ u64 total() const { return (u64)(((i64)high << 20) + low); }
};

__device__ __forceinline__ u64 mass_of(float x, float max, float toBase2)
{
    Mass mass = {0, 0};
    mass.add(x, max, toBase2);
    return mass.total();
}

/// The key of the smallest number in the smallest set of largest ones whose count, or mass, reaches `wanted`. Only keys
/// ≥ least count. x is in shared or global memory; shared holds 34 numbers.
__device__ u32 select_key(
    const float* x, int count, u32 least, bool byMass, u64 wanted, float max, float toBase2, u64* bins, u64* shared
)
{
    // The bits in which the keys differ: numbers that are close to each other share the upper ones.
    __shared__ u32 lowest, highest;
    if (threadIdx.x == 0)
    {
        lowest = ~0u;
        highest = least;
    }
    __syncthreads(); // no key has been seen
    u32 low = ~0u, high = least;
    for (int i = threadIdx.x; i < count; i += Threads)
    {
        u32 key = key_of(x[i]);
        if (key < least) continue;
        low = key < low ? key : low;
        high = key > high ? key : high;
    }
    atomicMin(&lowest, low);
    atomicMax(&highest, high);
    __syncthreads(); // all keys have been seen
    u32 base = lowest, range = highest >= base ? highest - base : 0;
    __syncthreads(); // all threads have read them: the next call may set them
    u32 prefix = 0, decided = 0; // the bits that are decided, and their mask
    for (int shift = 32 - __clz(range); shift > 0;)
    {
        int width = shift < 11 ? shift : 11;
        shift -= width;
        for (int i = threadIdx.x; i < RadixBins; i += Threads) bins[i] = 0;
        __syncthreads(); // all bins are empty
        for (int i = threadIdx.x; i < count; i += Threads)
        {
            u32 key = key_of(x[i]);
            if (key < least || ((key - base) & decided) != prefix) continue;
            u64 amount = byMass ? mass_of(x[i], max, toBase2) : 1;
            if (amount) atomicAdd(bins + ((key - base) >> shift & ((1u << width) - 1)), amount);
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
    }
    return base + prefix;
}
