// Top-k, top-p and min-p as one number a row: the smallest logit that is kept. It is found by counting, never by sorting,
// in three passes over the logits: the row's maximum; how many tokens lie how far below it, in fine bins; and the few
// tokens in the bins in which the smallest kept one must be. Of those it is selected by the bits of the numbers. Logits
// equal to it are all kept. A row whose candidates do not fit is selected from memory, 11 bits of the numbers at a time.
// Reference: Cpu/SamplingFilters.cs.

#include "Prelude.cuh"
#include "Reductions.cuh"
#include "Selection.cuh"
#include "SlotParameters.cuh"

constexpr int Bins = 4096, MostCandidates = 4096;
constexpr float BinsPerLogit = 128;

/// A row's state between the kernels; zeros before the first and after the last.
struct FilterRow
{
    u64 mass; // of all tokens
    u64 massAbove; // of tokens in bins before `first`
    u64 wantedMass; // that the kept tokens reach; 0: no top-p
    u32 maxKey; // of the largest logit
    u32 wanted; // of the candidates, by count; 0: no top-k
    int first, last; // bins of the candidates; first > last: none are needed
    u32 candidates;
    int arrived; // blocks
};

/// Larger logits have smaller bins: the distance to the maximum, rounded. The last bin has all that is far below it, and
/// what is not a number. Adding 1.5 · 2²³ leaves the rounded number in the lowest bits; conversions are slower.
__device__ __forceinline__ int bin_of(float x, float max)
{
    return __float_as_int(fminf((max - x) * BinsPerLogit, Bins - 1) + 12582912.0f) & (Bins - 1);
}

__device__ __forceinline__ bool filters(const Parameters& p, int vocabulary)
{
    return !p.greedy && ((p.topK > 0 && p.topK < vocabulary) || p.topP < 1);
}

/// Calls use(logit) for this block's share of a row; four at a time where rows begin at 16 bytes.
template <class F>
__device__ __forceinline__ void for_share(const float* x, int vocabulary, F use)
{
    if (vocabulary % 4 == 0)
    {
        constexpr int Loads = 4; // in flight
        const float4* x4 = (const float4*)x;
        int i = blockIdx.x * Threads + threadIdx.x, step = gridDim.x * Threads, end = vocabulary / 4;
        auto use4 = [&](const float4& v)
        {
            use(v.x);
            use(v.y);
            use(v.z);
            use(v.w);
        };
        for (; i + (Loads - 1) * step < end; i += Loads * step)
        {
            float4 v[Loads];
#pragma unroll
            for (int n = 0; n < Loads; n++) v[n] = x4[i + n * step];
#pragma unroll
            for (int n = 0; n < Loads; n++) use4(v[n]);
        }
        for (; i < end; i += step) use4(x4[i]);
    }
    else
        for (int i = blockIdx.x * Threads + threadIdx.x; i < vocabulary; i += gridDim.x * Threads) use(x[i]);
}

/// Whether this block is the last of its row to arrive. What the others wrote before is then visible.
__device__ __forceinline__ bool arrives_last(FilterRow& row)
{
    __shared__ int before;
    __threadfence(); // what this thread wrote is visible before the block is counted
    __syncthreads(); // all threads have written
    if (threadIdx.x == 0) before = atomicAdd(&row.arrived, 1);
    __syncthreads(); // the block is counted
    bool last = before == gridDim.x - 1;
    __threadfence(); // after all blocks were counted, all of their writes are visible
    return last;
}

/// The first of three kernels. Grid of each: (shares, rows) of 512 threads; rows that need no filter do nothing.
extern "C" __global__ void __launch_bounds__(Threads) filter_maximum(
    const float* logits, int vocabulary, const int* slots, const Parameters* parameters, FilterRow* filterRows
)
{
    __shared__ u32 tops[Threads / 32];
    wait_for_previous_kernel();
    let_next_kernel_start();
    int row = blockIdx.y, slot = slots[row];
    if (slot < 0) return;
    const Parameters p = parameters[slot];
    if (p.greedy || (!filters(p, vocabulary) && p.minP <= 0)) return;
    float highest = -INFINITY_F;
    for_share(logits + (i64)row * vocabulary, vocabulary, [&](float x) { highest = fmaxf(highest, x); });
    for (int step = 16; step > 0; step >>= 1) highest = fmaxf(highest, __shfl_xor_sync(FULL_WARP, highest, step));
    if (threadIdx.x % 32 == 0) tops[threadIdx.x / 32] = key_of(highest);
    __syncthreads(); // all warps' maxima are there
    if (threadIdx.x > 0) return;
    u32 top = 0;
    for (int i = 0; i < Threads / 32; i++) top = max(top, tops[i]);
    atomicMax(&filterRows[row].maxKey, top);
}

/// The first bin at which the running count reaches `wanted`, and the count before it. Thread t holds Bins / Threads
/// bins from t · Bins / Threads on. `shared` holds 32 numbers.
__device__ int find_bin(const u32* counts, u32 wanted, u32& before, u64* shared)
{
    constexpr int Own = Bins / Threads;
    __shared__ int found;
    __shared__ u32 foundBefore;
    u32 sum = 0;
    for (int i = 0; i < Own; i++) sum += counts[threadIdx.x * Own + i];
    u32 running = (u32)prefix_sum((u64)sum, shared);
    if (threadIdx.x == 0)
    {
        found = Bins - 1;
        foundBefore = 0;
    }
    __syncthreads(); // nothing has been found
    if (running < wanted && running + sum >= wanted)
        for (int i = 0; i < Own; i++)
        {
            u32 count = counts[threadIdx.x * Own + i];
            if (running + count >= wanted)
            {
                found = threadIdx.x * Own + i;
                foundBefore = running;
                break;
            }
            running += count;
        }
    __syncthreads(); // one thread has found it
    before = foundBefore;
    return found;
}

/// Top-p's bins: from bounds of each bin's mass, the first bin at which `wanted` may be reached, and the first at which
/// it surely is.
__device__ void find_mass_bins(
    const u32* counts, double wanted, float toBase2, int& first, int& last, double* shared
)
{
    constexpr int Own = Bins / Threads;
    __shared__ int most, least;
    if (threadIdx.x == 0) most = least = Bins - 1;
    float perBin = toBase2 / BinsPerLogit;

    // A bin's tokens lie between its edges; a little more, because numbers are rounded.
    auto most_of = [&](int bin) { return (double)counts[bin] * exp2f(-(bin - 0.51f) * perBin); };
    auto least_of = [&](int bin)
    { return bin < Bins - 1 ? (double)counts[bin] * exp2f(-(bin + 0.51f) * perBin) : 0.0; };
    double high = 0, low = 0;
    for (int i = 0; i < Own; i++)
    {
        high += most_of(threadIdx.x * Own + i);
        low += least_of(threadIdx.x * Own + i);
    }
    high = prefix_sum(high, shared);
    __syncthreads(); // shared may be written again
    low = prefix_sum(low, shared);
    for (int i = 0; i < Own; i++)
    {
        int bin = threadIdx.x * Own + i;
        high += most_of(bin);
        low += least_of(bin);
        if (high >= wanted * (1 - 1e-6)) atomicMin(&most, bin);
        if (low >= wanted * (1 + 1e-6)) atomicMin(&least, bin);
    }
    __syncthreads(); // all threads have looked
    first = most;
    last = least;
}

/// counts [rows, Bins], zero before and after. The last block of a row finds the bins of its candidates.
extern "C" __global__ void __launch_bounds__(Threads) filter_histogram(
    const float* logits, int vocabulary, const int* slots, const Parameters* parameters, FilterRow* filterRows,
    u32* counts
)
{
    __shared__ u32 bins[Bins];
    __shared__ u64 sums[32];
    wait_for_previous_kernel();
    let_next_kernel_start();
    int slot = slots[blockIdx.y];
    if (slot < 0) return;
    const Parameters p = parameters[slot];
    if (!filters(p, vocabulary)) return;
    FilterRow& row = filterRows[blockIdx.y];
    u32* rowCounts = counts + (i64)blockIdx.y * Bins;
    float max = value_of(row.maxKey), toBase2 = p.scale * 1.44269504f;
    bool byCount = p.topK > 0 && p.topK < vocabulary, byMass = p.topP < 1;

    // This block's share.
    for (int i = threadIdx.x; i < Bins; i += Threads) bins[i] = 0;
    __syncthreads(); // all bins are empty
    Mass own = {0, 0};
    for_share(
        logits + (i64)blockIdx.y * vocabulary, vocabulary,
        [&](float x)
        {
            atomicAdd(bins + bin_of(x, max), 1u);
            if (byMass && !byCount) own.add(x, max, toBase2);
        }
    );
    u64 mass = block_sum(own.total(), sums);
    __syncthreads(); // all tokens are counted
    for (int i = threadIdx.x; i < Bins; i += Threads)
        if (bins[i]) atomicAdd(rowCounts + i, bins[i]);
    if (threadIdx.x == 0 && byMass && !byCount) atomicAdd(&row.mass, mass);
    if (!arrives_last(row)) return;

    // All shares.
    for (int i = threadIdx.x; i < Bins; i += Threads)
    {
        bins[i] = load_shared_l2(rowCounts + i);
        rowCounts[i] = 0; // for the next launch
    }
    __syncthreads(); // all bins are loaded
    int first = 0, last = 0;
    u32 wanted = 0, before = 0;
    u64 wantedMass = 0;
    if (byCount)
    {
        // Top-p after top-k needs the mass of all that top-k keeps: then all of them are candidates.
        last = find_bin(bins, p.topK, before, sums);
        first = byMass ? 0 : last;
        wanted = byMass ? p.topK : p.topK - before;
    }
    else
    {
        wantedMass = (u64)((double)load_shared_l2(&row.mass) * p.topP);
        if (wantedMass == 0) wantedMass = 1;
        find_mass_bins(bins, (double)wantedMass / MassUnit, toBase2, first, last, (double*)sums);
    }
    if (threadIdx.x > 0) return;
    row.first = first;
    row.last = last;
    row.wanted = wanted;
    row.wantedMass = wantedMass;
    row.arrived = 0;
}

/// The smallest key that top-k and then top-p keep of these numbers. massAbove is the mass of kept tokens that are not
/// among them.
__device__ u32 select_kept(
    const float* x, int count, u32 wanted, u64 wantedMass, u64 massAbove, const Parameters& p, float max, u64* bins,
    u64* shared
)
{
    float toBase2 = p.scale * 1.44269504f;
    u32 least = 0;
    if (wanted > 0) least = select_key(x, count, 0, false, wanted, max, toBase2, bins, shared);
    if (p.topP >= 1) return least;
    if (wantedMass == 0) // of what top-k keeps
    {
        u64 mass = 0;
        for (int i = threadIdx.x; i < count; i += Threads)
            if (key_of(x[i]) >= least) mass += mass_of(x[i], max, toBase2);
        mass = block_sum(mass, bins);
        __syncthreads(); // bins may be written again
        wantedMass = (u64)((double)mass * p.topP);
        if (wantedMass == 0) wantedMass = 1;
    }
    return select_key(x, count, least, true, wantedMass - massAbove, max, toBase2, bins, shared);
}

/// thresholds[row] for each row: top-k first, then top-p on the mass that is left, then min-p. candidates [rows,
/// MostCandidates].
extern "C" __global__ void __launch_bounds__(Threads) filter_select(
    const float* logits, int vocabulary, const int* slots, const Parameters* parameters, FilterRow* filterRows,
    float* candidates, float* thresholds
)
{
    __shared__ u64 bins[RadixBins], shared[34];
    __shared__ float list[MostCandidates];
    __shared__ u32 listed, firstPlace;
    wait_for_previous_kernel();
    let_next_kernel_start();
    int slot = slots[blockIdx.y];
    if (slot < 0) return;
    const Parameters p = parameters[slot];
    FilterRow& row = filterRows[blockIdx.y];
    float max = value_of(row.maxKey), toBase2 = p.scale * 1.44269504f, threshold = -INFINITY_F;
    if (filters(p, vocabulary))
    {
        const float* x = logits + (i64)blockIdx.y * vocabulary;
        float* rowCandidates = candidates + (i64)blockIdx.y * MostCandidates;
        int first = row.first, last = row.last;
        Mass above = {0, 0};
        if (threadIdx.x == 0) listed = 0;
        __syncthreads(); // the list is empty
        for_share(
            x, vocabulary,
            [&](float v)
            {
                int bin = bin_of(v, max);
                if (bin > last) return;
                if (bin < first)
                {
                    if (p.topP < 1) above.add(v, max, toBase2);
                    return;
                }
                u32 place = atomicAdd(&listed, 1u);
                if (place < MostCandidates) list[place] = v;
            }
        );
        u64 massAbove = block_sum(above.total(), bins);
        if (threadIdx.x == 0)
        {
            if (massAbove > 0) atomicAdd(&row.massAbove, massAbove);
            firstPlace = atomicAdd(&row.candidates, listed);
        }
        __syncthreads(); // this block has places in the row's list
        for (int i = threadIdx.x; i < listed && i < MostCandidates; i += Threads)
            if (firstPlace + i < MostCandidates) rowCandidates[firstPlace + i] = list[i];
        if (!arrives_last(row)) return;
        u32 count = load_shared_l2(&row.candidates), least;
        if (count <= MostCandidates)
        {
            for (int i = threadIdx.x; i < count; i += Threads) list[i] = load_shared_l2(rowCandidates + i);
            __syncthreads(); // all candidates are in shared memory
            massAbove = load_shared_l2(&row.massAbove);
            least = select_kept(list, count, row.wanted, row.wantedMass, massAbove, p, max, bins, shared);
        }
        else
        {
            u32 topK = p.topK > 0 && p.topK < vocabulary ? p.topK : 0;
            least = select_kept(x, vocabulary, topK, row.wantedMass, 0, p, max, bins, shared);
        }
        if (least > 0) threshold = value_of(least);
    }
    else if (blockIdx.x > 0)
        return;
    if (threadIdx.x > 0) return;
    if (!p.greedy && p.minP > 0) threshold = fmaxf(threshold, (float)(max + log((double)p.minP) / p.scale));
    thresholds[blockIdx.y] = threshold;
    row = FilterRow(); // for the next launch
}
