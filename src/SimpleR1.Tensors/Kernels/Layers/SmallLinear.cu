// y = x · Wᵀ + b for a few rows: reading W is all the work. A warp takes one output, or several where there are many,
// and starts all its loads of W before it needs the first, even before the kernel that makes x has ended. cuBLAS's
// products need about twice the time at these sizes. References: Cpu/Layers/Linear.cs, Cpu/Layers/SwiGlu.cs.

#include "Prelude.cuh"
#include "Reductions.cuh"

/// OUTPUTS dot products of each row of x with rows of W: TOGETHER that follow each other from `first` on, the next ones
/// `stride` further. Every lane gets the sums. Of PARTS warps that share the work, this one does `part`.
template <int ROWS, int OUTPUTS, int TOGETHER, int PARTS = 1>
__device__ __forceinline__ void dot_products(
    float (&sums)[OUTPUTS][ROWS], const ELEMENT* x, const ELEMENT* weight, int first, int stride, int rows, int inputs,
    int part = 0
)
{
    // 8 to 10 loads of 16 bytes a lane are in flight at a time.
    constexpr int Step = 32 * PARTS, Unroll = OUTPUTS == 1 ? 10 : 2;
    int lane = threadIdx.x % 32, chunks = inputs / 8;
    bool waited = false;
    for (int i = 32 * part + lane; i - lane < chunks; i += Step * Unroll)
    {
        Eight<ELEMENT> w[Unroll][OUTPUTS];
#pragma unroll
        for (int u = 0; u < Unroll; u++)
            if (i + Step * u < chunks)
#pragma unroll
                for (int o = 0; o < OUTPUTS; o++)
                    w[u][o] =
                        ((const Eight<ELEMENT>*)(weight + (i64)(first + o % TOGETHER + o / TOGETHER * stride) * inputs)
                        )[i + Step * u];
        if (!waited) wait_for_previous_kernel();
        waited = true;
#pragma unroll
        for (int u = 0; u < Unroll; u++)
        {
            if (i + Step * u >= chunks) break;
#pragma unroll
            for (int r = 0; r < ROWS; r++)
            {
                if (r >= rows) break;
                Eight<ELEMENT> v = ((const Eight<ELEMENT>*)(x + (i64)r * inputs))[i + Step * u];
#pragma unroll
                for (int o = 0; o < OUTPUTS; o++)
#pragma unroll
                    for (int k = 0; k < 8; k++) sums[o][r] += to_float(v.at[k]) * to_float(w[u][o].at[k]);
            }
        }
    }
    if (!waited) wait_for_previous_kernel();
    let_next_kernel_start();
#pragma unroll
    for (int o = 0; o < OUTPUTS; o++)
#pragma unroll
        for (int r = 0; r < ROWS; r++) sums[o][r] = warp_sum(sums[o][r]);
}

template <int ROWS, int OUTPUTS, class OUT>
__device__ __forceinline__ void small_linear(
    const ELEMENT* x, const ELEMENT* weight, const ELEMENT* bias, OUT* y, int rows, int outputs, int inputs
)
{
    int first = (blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32) * OUTPUTS;

    // The last warps compute some outputs twice, with the same result.
    if (first + OUTPUTS > outputs) first = max(0, outputs - OUTPUTS);
    float sums[OUTPUTS][ROWS] = {};
    dot_products<ROWS, OUTPUTS, OUTPUTS>(sums, x, weight, first, 0, rows, inputs);
    if (threadIdx.x % 32 > 0) return;
#pragma unroll
    for (int o = 0; o < OUTPUTS; o++)
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (r < rows)
                y[(i64)r * outputs + first + o] =
                    from_float<OUT>(sums[o][r] + (bias ? to_float(bias[first + o]) : 0.0f));
}

/// One output a block of 4 warps: few outputs of many inputs would otherwise leave too few loads in flight.
template <int ROWS>
__device__ __forceinline__ void small_linear_split(
    const ELEMENT* x, const ELEMENT* weight, const ELEMENT* bias, ELEMENT* y, int rows, int outputs, int inputs
)
{
    __shared__ float parts[4][ROWS];
    float sums[1][ROWS] = {};
    dot_products<ROWS, 1, 1, 4>(sums, x, weight, blockIdx.x, 0, rows, inputs, threadIdx.x / 32);
    if (threadIdx.x % 32 == 0)
        for (int r = 0; r < ROWS; r++) parts[threadIdx.x / 32][r] = sums[0][r];
    __syncthreads(); // all warps' parts are there
    int r = threadIdx.x;
    if (r < rows)
        y[(i64)r * outputs + blockIdx.x] = from_float<ELEMENT>(
            parts[0][r] + parts[1][r] + (parts[2][r] + parts[3][r]) + (bias ? to_float(bias[blockIdx.x]) : 0.0f)
        );
}

/// x [rows, inputs], weight [outputs, inputs], bias [outputs] or null → y [rows, outputs]; inputs % 8 == 0. The first
/// number of the name is the most rows, the second the outputs of a warp; there are at least as many outputs.
/// Grid: ceil(outputs / (outputs of a warp · warps of a block)).
#define SMALL_LINEAR(name, rowsAtMost, perWarp, OUT) \
    extern "C" __global__ void name( \
        const ELEMENT* x, const ELEMENT* weight, const ELEMENT* bias, OUT* y, int rows, int outputs, int inputs \
    ) \
    { \
        small_linear<rowsAtMost, perWarp, OUT>(x, weight, bias, y, rows, outputs, inputs); \
    }

SMALL_LINEAR(small_linear_1_1, 1, 1, ELEMENT)
SMALL_LINEAR(small_linear_2_1, 2, 1, ELEMENT)
SMALL_LINEAR(small_linear_4_1, 4, 1, ELEMENT)
SMALL_LINEAR(small_linear_1_4, 1, 4, ELEMENT)
SMALL_LINEAR(small_linear_2_4, 2, 4, ELEMENT)
SMALL_LINEAR(small_linear_4_4, 4, 4, ELEMENT)
SMALL_LINEAR(small_linear_to_float_1, 1, 4, float)
SMALL_LINEAR(small_linear_to_float_2, 2, 4, float)
SMALL_LINEAR(small_linear_to_float_4, 4, 4, float)

/// The same with one output a block. Grid: outputs, of 128 threads.
#define SMALL_LINEAR_SPLIT(name, rowsAtMost) \
    extern "C" __global__ void name( \
        const ELEMENT* x, const ELEMENT* weight, const ELEMENT* bias, ELEMENT* y, int rows, int outputs, int inputs \
    ) \
    { \
        small_linear_split<rowsAtMost>(x, weight, bias, y, rows, outputs, inputs); \
    }

SMALL_LINEAR_SPLIT(small_linear_1_split, 1)
SMALL_LINEAR_SPLIT(small_linear_2_split, 2)
SMALL_LINEAR_SPLIT(small_linear_4_split, 4)

/// silu(x · gateᵀ) · (x · upᵀ) in one: weight [2 · width, inputs] holds gate, then up → y [rows, width], width ≥ 2.
/// A warp computes two outputs.
template <int ROWS>
__device__ __forceinline__ void small_gated(
    const ELEMENT* x, const ELEMENT* weight, ELEMENT* y, int rows, int width, int inputs
)
{
    int first = min((int)(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32) * 2, width - 2);
    float sums[4][ROWS] = {}; // gate, gate, up, up
    dot_products<ROWS, 4, 2>(sums, x, weight, first, width, rows, inputs);
    if (threadIdx.x % 32 > 0) return;
#pragma unroll
    for (int o = 0; o < 2; o++)
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (r < rows)
            {
                // Rounded as the two products alone would be.
                float gate = to_float(from_float<ELEMENT>(sums[o][r])),
                      up = to_float(from_float<ELEMENT>(sums[2 + o][r]));
                y[(i64)r * width + first + o] = from_float<ELEMENT>(gate / (1 + __expf(-gate)) * up);
            }
}

#define SMALL_GATED(name, rowsAtMost) \
    extern "C" __global__ void name( \
        const ELEMENT* x, const ELEMENT* weight, ELEMENT* y, int rows, int width, int inputs \
    ) \
    { \
        small_gated<rowsAtMost>(x, weight, y, rows, width, inputs); \
    }

SMALL_GATED(small_gated_1, 1)
SMALL_GATED(small_gated_2, 2)
SMALL_GATED(small_gated_4, 4)
