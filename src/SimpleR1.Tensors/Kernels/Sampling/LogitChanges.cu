// What changes single logits before the draw: bias and masks that the host lists, and penalties, computed from the table
// of tokens. Penalties are vLLM's: repetition over prompt and output, presence and frequency over the output.
// Reference: CpuSampler.Adjust in SimpleR1.Inference.

#include "Prelude.cuh"
#include "SlotParameters.cuh"

/// edits: {row, token, bits of what is added, -}; −∞ masks. A row's edits are in order, and tokens may repeat: one
/// thread makes them all. ranges[i] = {first, end} of a row's edits. Grid: one thread a row with edits.
extern "C" __global__ void edit_logits(float* logits, int vocabulary, const int4* edits, const int2* ranges, int count)
{
    wait_for_previous_kernel();
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    for (int e = ranges[i].x; e < ranges[i].y; e++)
        logits[(i64)edits[e].x * vocabulary + edits[e].y] += __int_as_float(edits[e].z);
}

/// Grid: one block of 256 threads a row. Dynamic shared memory: one bit a token of the vocabulary.
extern "C" __global__ void penalties(
    float* logits, int vocabulary, const int* slots, const int* positions, const Parameters* parameters,
    const int* tokens, int tokenStride
)
{
    DYNAMIC_SHARED(memory);
    u32* seen = (u32*)memory;
    wait_for_previous_kernel();
    int row = blockIdx.x, slot = slots[row];
    if (slot < 0) return;
    const Parameters p = parameters[slot];
    if (p.repetition == 1 && p.presence == 0 && p.frequency == 0) return;
    float* x = logits + (i64)row * vocabulary;
    const int* history = tokens + (i64)slot * tokenStride;
    int length = positions[row] + 1;

    // Repetition over prompt and output, then presence over the output alone: the first thread to see a token acts for it.
    // Frequency comes last, in a pass of its own, because then all that is added to a logit is equal, and the order of
    // the threads does not show in its last bits.
    for (int pass = 0; pass < 3; pass++)
    {
        __syncthreads(); // the pass before is done with `seen` and the logits
        for (int i = threadIdx.x; i < (vocabulary + 31) / 32; i += blockDim.x) seen[i] = 0;
        __syncthreads(); // no token has been seen
        for (int i = (pass == 0 ? 0 : p.promptLength) + threadIdx.x; i < length; i += blockDim.x)
        {
            int token = history[i];
            bool first = !(atomicOr(seen + token / 32, 1u << token % 32) & 1u << token % 32);
            if (pass == 0 && first && p.repetition != 1)
                x[token] = x[token] > 0 ? x[token] / p.repetition : x[token] * p.repetition;
            if (pass == 1 && first) x[token] -= p.presence;
            if (pass == 2 && p.frequency != 0) atomicAdd(x + token, -p.frequency);
        }
    }
}
