// The sum of two gradients of one tensor. Reference: CpuKernels.Add.

#include "Prelude.cuh"

/// sum[i] += x[i], i < 8 · count. Grid: any.
extern "C" __global__ void add(const ELEMENT* x, ELEMENT* sum, i64 count)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (i64)gridDim.x * blockDim.x)
    {
        Eight<ELEMENT> a = ((const Eight<ELEMENT>*)x)[i], b = ((Eight<ELEMENT>*)sum)[i];
        for (int k = 0; k < 8; k++) b.at[k] = from_float<ELEMENT>(to_float(a.at[k]) + to_float(b.at[k]));
        ((Eight<ELEMENT>*)sum)[i] = b;
    }
}
