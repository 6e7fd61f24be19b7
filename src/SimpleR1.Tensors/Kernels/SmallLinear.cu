// y = x · Wᵀ + b for a few rows: reading W is all the work, so each warp streams its own rows of W and keeps many loads under way.
// cuBLAS's products need about twice the time at these sizes. Reference: Cpu/Linear.cs.

#include "Prelude.cuh"
#include "Reductions.cuh"

constexpr int OutputsPerWarp = 4;

template <int ROWS, class OUT> __device__ __forceinline__ void small_linear(const ELEMENT* x, const ELEMENT* weight, const ELEMENT* bias, OUT* y, int rows, int outputs, int inputs)
{
    int lane = threadIdx.x % 32, first = (blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32) * OutputsPerWarp;
    if (first >= outputs)
    {
        wait_for_previous_kernel();
        return;
    }
    float sums[OutputsPerWarp][ROWS] = {};
    bool waited = false;
    for (int i = lane; i < inputs / 8; i += 32)
    {
        Eight<ELEMENT> w[OutputsPerWarp]; // the weights do not depend on the kernel before: their loads start while it ends
        for (int o = 0; o < OutputsPerWarp; o++) w[o] = ((const Eight<ELEMENT>*)(weight + (i64)min(first + o, outputs - 1) * inputs))[i];
        if (!waited)
        {
            wait_for_previous_kernel();
            waited = true;
        }
        for (int r = 0; r < ROWS; r++)
        {
            if (r >= rows) break;
            Eight<ELEMENT> v = ((const Eight<ELEMENT>*)(x + (i64)r * inputs))[i];
            for (int o = 0; o < OutputsPerWarp; o++)
                for (int k = 0; k < 8; k++) sums[o][r] += to_float(v.at[k]) * to_float(w[o].at[k]);
        }
    }
    if (!waited) wait_for_previous_kernel();
    let_next_kernel_start();
    for (int o = 0; o < OutputsPerWarp; o++)
        for (int r = 0; r < ROWS; r++)
        {
            if (r >= rows) break;
            float sum = warp_sum(sums[o][r]);
            if (lane == 0 && first + o < outputs) y[(i64)r * outputs + first + o] = from_float<OUT>(sum + (bias ? to_float(bias[first + o]) : 0.0f));
        }
}

/// x [rows, inputs], weight [outputs, inputs], bias [outputs] or null → y [rows, outputs]; inputs % 8 == 0, rows ≤ the number in the name.
/// Grid: ceil(outputs / (4 · warps of a block)).
#define SMALL_LINEAR(name, rowsAtMost, OUT) \
    extern "C" __global__ void name(const ELEMENT* x, const ELEMENT* weight, const ELEMENT* bias, OUT* y, int rows, int outputs, int inputs) \
    { small_linear<rowsAtMost, OUT>(x, weight, bias, y, rows, outputs, inputs); }

SMALL_LINEAR(small_linear_1, 1, ELEMENT)
SMALL_LINEAR(small_linear_2, 2, ELEMENT)
SMALL_LINEAR(small_linear_4, 4, ELEMENT)
SMALL_LINEAR(small_linear_to_float_1, 1, float)
SMALL_LINEAR(small_linear_to_float_2, 2, float)
SMALL_LINEAR(small_linear_to_float_4, 4, float)
