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

/// Gradient of sum -> norm(sum) and of the residual stream that goes on. rows in turn by each block; width <= 8 * blockDim.
/// dSum [rows, width] f32: in, the gradient of the stream after this place (undefined when !hasStream); out, of sum.
/// dDelta: the same in ELEMENT.
/// partial [gridDim.x, width] f32: each block's part of the weight's gradient.
extern "C" __global__ void __launch_bounds__(1024) rms_norm_gradient(
    const float* sum, const ELEMENT* weight, const ELEMENT* dNormed, float* dSum, ELEMENT* dDelta, float* partial,
    int rows, int width, float epsilon, int hasStream)
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
        Eight<float> x = {}, stream = {};
        Eight<ELEMENT> dy;
        float squares = 0, products = 0, scaled[8];
        if (active)
        {
            x = ((const Eight<float>*)(sum + start))[i];
            dy = ((const Eight<ELEMENT>*)(dNormed + start))[i];
            if (hasStream) stream = ((const Eight<float>*)(dSum + start))[i];
            for (int k = 0; k < 8; k++)
            {
                scaled[k] = to_float(dy.at[k]) * to_float(w.at[k]);
                squares += x.at[k] * x.at[k];
                products += x.at[k] * scaled[k];
            }
        }
        block_sum2(squares, products, scratch);
        float scale = rsqrtf(squares / width + epsilon), back = products * scale * scale / width;
        if (active)
        {
            Eight<ELEMENT> copy;
            for (int k = 0; k < 8; k++)
            {
                dWeight[k] += to_float(dy.at[k]) * x.at[k] * scale;
                stream.at[k] += scale * (scaled[k] - x.at[k] * back);
                copy.at[k] = from_float<ELEMENT>(stream.at[k]);
            }
            ((Eight<float>*)(dSum + start))[i] = stream;
            if (dDelta) ((Eight<ELEMENT>*)(dDelta + start))[i] = copy;
        }
    }
    if (active) for (int k = 0; k < 8; k++) partial[(i64)blockIdx.x * width + 8 * i + k] = dWeight[k];
}
