// Sums over the rows of a matrix in two fixed stages, for the gradients of biases and norms: the same input gives the
// same bits. Reference: CpuKernels.LinearBiasGradient.

#include "Prelude.cuh"
#include "Reductions.cuh"

/// First stage: block (x, y) sums rows [y · rowsPerBlock, …) of 8 · blockDim columns. Grid: (ceil(width / 8 / blockDim),
/// parts).
extern "C" __global__ void column_sum(const ELEMENT* x, float* partial, int rows, int width, int rowsPerBlock)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= width / 8) return;
    int first = blockIdx.y * rowsPerBlock, last = min(rows, first + rowsPerBlock);
    float sum[8] = {};
#pragma unroll 4
    for (int row = first; row < last; row++)
    {
        Eight<ELEMENT> value = ((const Eight<ELEMENT>*)(x + (i64)row * width))[i];
        for (int k = 0; k < 8; k++) sum[k] += to_float(value.at[k]);
    }
    for (int k = 0; k < 8; k++) partial[(i64)blockIdx.y * width + 8 * i + k] = sum[k];
}

/// Second stage: adds the parts, in order, to the gradient; a row of parts is `stride` long. Grid: ceil(width /
/// blockDim).
extern "C" __global__ void add_parts(const float* partial, float* gradient, int parts, int width, int stride)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= width) return;
    float sum = 0;
#pragma unroll 8
    for (int p = 0; p < parts; p++) sum += partial[(i64)p * stride + i];
    gradient[i] += sum;
}
