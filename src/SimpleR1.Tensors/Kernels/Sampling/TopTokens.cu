// The most probable tokens of rows that report them: the k largest logits that the filters keep, the smallest ids among
// equals. Reference: Sampled.MostProbable in SimpleR1.Inference.

#include "Prelude.cuh"
#include "Reductions.cuh"
#include "Selection.cuh"

/// rows: {row of logits, k, first place in `found`, -}; thresholds [rows] or null. found: (token, bits of its logit) of
/// each, in no order; counts: how many. Grid: one block of 512 threads for each of `rows`.
extern "C" __global__ void __launch_bounds__(Threads) top_tokens(
    const float* logits, int vocabulary, const int4* rows, const float* thresholds, int2* found, int* counts
)
{
    __shared__ u64 bins[RadixBins], shared[34];
    __shared__ float tops[Threads];
    __shared__ int place, tiesBefore;
    wait_for_previous_kernel();
    let_next_kernel_start();
    int4 row = rows[blockIdx.x];
    const float* x = logits + (i64)row.x * vocabulary;
    int wanted = min(row.y, vocabulary);
    int2* to = found + row.z;

    // The k-th largest of the threads' maxima is a lower bound that leaves few to count.
    u32 least = 0;
    if (wanted <= Threads)
    {
        float highest = -INFINITY_F;
        for (int i = threadIdx.x; i < vocabulary; i += Threads) highest = fmaxf(highest, x[i]);
        tops[threadIdx.x] = highest;
        __syncthreads(); // all threads' maxima are there
        least = select_key(tops, Threads, 0, false, wanted, 0, 0, bins, shared);
    }
    u32 kth = select_key(x, vocabulary, least, false, wanted, 0, 0, bins, shared);

    // What is not kept, or masked, is not reported.
    float threshold = thresholds ? thresholds[row.x] : -INFINITY_F;
    u32 smallest = max(kth, threshold > -INFINITY_F ? key_of(threshold) : key_of(-INFINITY_F) + 1);
    if (threadIdx.x == 0) place = tiesBefore = 0;
    __syncthreads(); // place is 0
    for (int i = threadIdx.x; i < vocabulary; i += Threads)
    {
        u32 key = key_of(x[i]);
        if (key < smallest || key == kth) continue;
        to[atomicAdd(&place, 1)] = make_int2(i, __float_as_int(x[i]));
    }
    __syncthreads(); // all tokens above the k-th are there

    // Of those that equal the k-th, the smallest ids, as many as there is room for.
    int room = wanted - place;
    for (int first = 0; kth >= smallest && first < vocabulary && tiesBefore < room; first += Threads)
    {
        int i = first + threadIdx.x;
        u64 ties = i < vocabulary && key_of(x[i]) == kth;
        u64 before = prefix_sum(ties, shared) + tiesBefore;
        if (ties && before < room) to[place + before] = make_int2(i, __float_as_int(x[i]));
        __syncthreads(); // all threads have read tiesBefore and shared
        if (threadIdx.x == Threads - 1) tiesBefore = (int)(before + ties);
        __syncthreads(); // tiesBefore counts this piece
    }
    if (threadIdx.x == 0) counts[blockIdx.x] = place + min(tiesBefore, room);
}
