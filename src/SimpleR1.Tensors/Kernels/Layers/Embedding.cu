// Rows of the embedding table become the residual stream. Reference: CpuKernels.Embedding.

#include "Prelude.cuh"

/// x[token, :] = table[ids[token], :], widened to f32; ids below 0 (padding of a batch) give zeros. width % 8 == 0.
/// Grid: one block a token.
extern "C" __global__ void embedding(float* x, const ELEMENT* table, const i64* ids, int width)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    i64 id = ids[blockIdx.x];
    const Eight<ELEMENT>* row = (const Eight<ELEMENT>*)(table + (id < 0 ? 0 : id) * width);
    Eight<float>* to = (Eight<float>*)(x + (i64)blockIdx.x * width);
    for (int i = threadIdx.x; i < width / 8; i += blockDim.x)
    {
        Eight<ELEMENT> from = row[i];
        Eight<float> wide;
        for (int k = 0; k < 8; k++) wide.at[k] = id < 0 ? 0.0f : to_float(from.at[k]);
        to[i] = wide;
    }
}
