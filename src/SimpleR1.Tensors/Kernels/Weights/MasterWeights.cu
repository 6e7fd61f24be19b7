// f32 weights as bf16 weights and a 16-bit remainder: the upper half of the number's bits, rounded to the nearest with
// ties away from zero, and what is left of them as a signed number. Both halves together are the f32 bits exactly.
// Reference: MasterWeights in SimpleR1.Training.

#include "Prelude.cuh"

/// weight, remainder ← master. Grid: any.
extern "C" __global__ void split_master(const u32* master, u16* weight, u16* remainder, i64 count)
{
    wait_for_previous_kernel();
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (i64)gridDim.x * blockDim.x)
    {
        u32 bits = master[i], high = (bits + 0x8000u) >> 16;
        weight[i] = (u16)high;
        remainder[i] = (u16)(bits - (high << 16));
    }
}

/// master ← weight, remainder. Grid: any.
extern "C" __global__ void join_master(const u16* weight, const u16* remainder, u32* master, i64 count)
{
    wait_for_previous_kernel();
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (i64)gridDim.x * blockDim.x)
        master[i] = ((u32)weight[i] << 16) + (u32)(int)(short)remainder[i];
}
