// y = x / sqrt(mean(x²) + ε) · weight (Zhang and Sennrich 2019), with the residual stream's addition before it.
// Reference: Cpu/Layers/RmsNorm.cs. The residual stream x is f32: 48 additions in bf16 would cost the log-probs two
// digits.

#include "Prelude.cuh"
#include "Reductions.cuh"

/// sum = x + delta (delta may be null: then sum is not written and may be null), y = norm(sum). [rows, width], width
/// % 8 == 0. Grid: one block a row. sum may be x.
extern "C" __global__ void add_rms_norm(
    const float* x, const ELEMENT* delta, float* sum, const ELEMENT* weight, ELEMENT* y, int width, float epsilon
)
{
    __shared__ float scratch[32];

    // Weights of a thread's first elements; they do not depend on the previous kernel.
    Eight<ELEMENT> w;
    if (threadIdx.x < width / 8) w = ((const Eight<ELEMENT>*)weight)[threadIdx.x];
    wait_for_previous_kernel();
    let_next_kernel_start();
    i64 row = (i64)blockIdx.x * width;
    const Eight<float>* xs = (const Eight<float>*)(x + row);
    const Eight<ELEMENT>* deltas = (const Eight<ELEMENT>*)(delta + row);
    Eight<float>* sums = (Eight<float>*)(sum + row);

    // A thread's last elements, for the second loop; rows of up to 8 · blockDim elements have no others.
    Eight<float> kept;
    float squares = 0;
    for (int i = threadIdx.x; i < width / 8; i += blockDim.x)
    {
        kept = xs[i];
        if (delta)
        {
            Eight<ELEMENT> d = deltas[i];
            for (int k = 0; k < 8; k++) kept.at[k] += to_float(d.at[k]);
            sums[i] = kept;
        }
        for (int k = 0; k < 8; k++) squares += kept.at[k] * kept.at[k];
    }
    float scale = rsqrtf(block_sum(squares, scratch) / width + epsilon);
    bool fitsThreads = width / 8 <= blockDim.x;
    const Eight<float>* normalised = delta ? sums : xs;
    for (int i = threadIdx.x; i < width / 8; i += blockDim.x)
    {
        if (!fitsThreads)
        {
            kept = normalised[i];
            w = ((const Eight<ELEMENT>*)weight)[i];
        }
        Eight<ELEMENT> out;
        for (int k = 0; k < 8; k++) out.at[k] = from_float<ELEMENT>(kept.at[k] * scale * to_float(w.at[k]));
        ((Eight<ELEMENT>*)(y + row))[i] = out;
    }
}
