// Chosen rows of a matrix. Reference: CpuKernels.SelectRows.

#include "Prelude.cuh"

/// y[i, :] = x[indices[i], :]; width % 8 == 0. Grid: one block an index.
extern "C" __global__ void select_rows(const ELEMENT* x, ELEMENT* y, const i64* indices, int width)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    const Eight<ELEMENT>* from = (const Eight<ELEMENT>*)(x + indices[blockIdx.x] * width);
    Eight<ELEMENT>* to = (Eight<ELEMENT>*)(y + (i64)blockIdx.x * width);
    for (int i = threadIdx.x; i < width / 8; i += blockDim.x) to[i] = from[i];
}
