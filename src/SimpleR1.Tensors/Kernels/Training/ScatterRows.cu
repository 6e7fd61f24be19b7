// The gradients of reading rows of a matrix: every row gets the sum over its readers, in their order, so that the same
// batch gives the same bits. References: CpuKernels.EmbeddingGradient, CpuKernels.SelectRowsGradient.

#include "Prelude.cuh"

/// How often a row is read, and by whom first.
struct __align__(8) Readers { int first, count; };

/// readers[row] of all rows that are read; first must be INT_MAX and count 0 before. Grid: ceil(count / blockDim).
extern "C" __global__ void count_readers(const i64* rows, Readers* readers, int count)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    atomicMin(&readers[rows[i]].first, i);
    atomicAdd(&readers[rows[i]].count, 1);
}

/// readers[i] = {INT_MAX, 0}, i < count. Grid: ceil(count / blockDim).
extern "C" __global__ void clear_readers(Readers* readers, int count)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) readers[i] = {0x7fffffff, 0};
}

/// dX [·, width] += dy [count, width], each row where it was read; width % 8 == 0. Grid: one block of whole warps a
/// reader; the first reader of a row adds those of all its readers.
extern "C" __global__ void scatter_rows(
    const i64* rows, const Readers* readers, const ELEMENT* dy, TARGET* dX, int count, int width
)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    i64 row = rows[blockIdx.x];
    Readers own = readers[row];
    if (own.first != (int)blockIdx.x) return;
    Eight<TARGET>* to = (Eight<TARGET>*)(dX + row * width);
    int lane = threadIdx.x % 32;
    for (int i = threadIdx.x; i - lane < width / 8; i += blockDim.x)
    {
        bool active = i < width / 8;
        float sum[8] = {};
        if (active)
        {
            Eight<TARGET> before = to[i];
            for (int k = 0; k < 8; k++) sum[k] = to_float(before.at[k]);
        }

        // A warp looks at 32 readers at a time; those of this row add up in their order.
        int left = own.count;
        for (int first = own.first; left > 0; first += 32)
        {
            u32 readers = __ballot_sync(FULL_WARP, first + lane < count && rows[first + lane] == row);
            left -= __popc(readers);
            for (; readers != 0; readers &= readers - 1)
            {
                if (!active) continue;
                i64 reader = first + __ffs(readers) - 1;
                Eight<ELEMENT> slope = ((const Eight<ELEMENT>*)(dy + reader * width))[i];
                for (int k = 0; k < 8; k++) sum[k] += to_float(slope.at[k]);
            }
        }
        if (!active) continue;
        Eight<TARGET> after;
        for (int k = 0; k < 8; k++) after.at[k] = from_float<TARGET>(sum[k]);
        to[i] = after;
    }
}
