// The gradient of RmsNorm.cu: of the residual stream and of the norm's weight. Reference: Cpu/Layers/RmsNorm.cs.

#include "Prelude.cuh"
#include "Reductions.cuh"

/// Two sums over a block at once. `scratch` holds 64 numbers.
__device__ __forceinline__ void block_sum2(float& x, float& y, float* scratch)
{
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
    x = warp_sum(x);
    y = warp_sum(y);
    __syncthreads(); // the sums of the call before have been read
    if (lane == 0)
    {
        scratch[warp] = x;
        scratch[32 + warp] = y;
    }
    __syncthreads(); // every warp has written its sums
    x = warp_sum(lane < warps ? scratch[lane] : 0.0f);
    y = warp_sum(lane < warps ? scratch[32 + lane] : 0.0f);
}

/// x [rows, width] f32 → norm(x). dX [rows, width] f32: in, the gradient of the stream after this place; out, of x.
/// dDelta: a copy of it in ELEMENT, or null. partial [gridDim.x, width] f32: each block's part of the weight's gradient.
/// Blocks take rows in turn; width <= 8 · blockDim, width % 8 == 0.
extern "C" __global__ void __launch_bounds__(1024) rms_norm_gradient(
    const float* x, const ELEMENT* weight, const ELEMENT* dNormed, float* dX, ELEMENT* dDelta, float* partial, int rows,
    int width, float epsilon
)
{
    __shared__ float scratch[64];
    int i = threadIdx.x;
    bool active = i < width / 8;
    Eight<ELEMENT> w;
    if (active) w = ((const Eight<ELEMENT>*)weight)[i];
    wait_for_previous_kernel();
    let_next_kernel_start();
    float dWeight[8] = {};
    for (int row = blockIdx.x; row < rows; row += gridDim.x)
    {
        i64 start = (i64)row * width;
        Eight<float> input = {}, stream = {};
        Eight<ELEMENT> dy;
        float squares = 0, products = 0, scaled[8];
        if (active)
        {
            input = ((const Eight<float>*)(x + start))[i];
            dy = ((const Eight<ELEMENT>*)(dNormed + start))[i];
            stream = ((const Eight<float>*)(dX + start))[i];
            for (int k = 0; k < 8; k++)
            {
                scaled[k] = to_float(dy.at[k]) * to_float(w.at[k]);
                squares += input.at[k] * input.at[k];
                products += input.at[k] * scaled[k];
            }
        }
        block_sum2(squares, products, scratch);
        float scale = rsqrtf(squares / width + epsilon), back = products * scale * scale / width;
        if (!active) continue;
        Eight<ELEMENT> copy;
        for (int k = 0; k < 8; k++)
        {
            dWeight[k] += to_float(dy.at[k]) * input.at[k] * scale;
            stream.at[k] += scale * (scaled[k] - input.at[k] * back);
            copy.at[k] = from_float<ELEMENT>(stream.at[k]);
        }
        ((Eight<float>*)(dX + start))[i] = stream;
        if (dDelta) ((Eight<ELEMENT>*)(dDelta + start))[i] = copy;
    }
    if (active)
        for (int k = 0; k < 8; k++) partial[(i64)blockIdx.x * width + 8 * i + k] = dWeight[k];
}
