// Writes the elements of a chunk that changed since the last weight update. Reference: WeightDelta.Apply in
// SimpleR1.WeightSync.

#include "Prelude.cuh"

#if BITS == 16
typedef u16 word;
#else
typedef u32 word;
#endif

/// to[changes[2i]] = changes[2i + 1]. Grid: one thread a change.
extern "C" __global__ void weight_delta(word* to, const u32* changes, int count)
{
    wait_for_previous_kernel();
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) to[changes[2 * i]] = (word)changes[2 * i + 1];
}
