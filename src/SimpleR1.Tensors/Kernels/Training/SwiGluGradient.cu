// The gradient of SwiGlu.cu. Reference: Cpu/Layers/SwiGlu.cs (Backward).

#include "Prelude.cuh"

/// gateUp [rows, 2 · width], dy [rows, width] → dGateUp [rows, 2 · width], which may be gateUp; y is made again. Grid:
/// (rows, ceil(width / 8 / blockDim)).
extern "C" __global__ void swiglu_gradient(
    const ELEMENT* gateUp, const ELEMENT* dy, ELEMENT* dGateUp, ELEMENT* y, int width
)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    int i = blockIdx.y * blockDim.x + threadIdx.x;
    if (i >= width / 8) return;
    const Eight<ELEMENT>* row = (const Eight<ELEMENT>*)(gateUp + (i64)blockIdx.x * 2 * width);
    Eight<ELEMENT> gate = row[i], up = row[width / 8 + i],
                   d = ((const Eight<ELEMENT>*)(dy + (i64)blockIdx.x * width))[i], dGate, dUp, out;
    for (int k = 0; k < 8; k++)
    {
        float g = to_float(gate.at[k]), u = to_float(up.at[k]), slope = to_float(d.at[k]);
        float sigmoid = 1 / (1 + __expf(-g)), silu = g * sigmoid;
        out.at[k] = from_float<ELEMENT>(silu * u);
        dUp.at[k] = from_float<ELEMENT>(slope * silu);
        dGate.at[k] = from_float<ELEMENT>(slope * u * (sigmoid + silu * (1 - sigmoid)));
    }
    Eight<ELEMENT>* to = (Eight<ELEMENT>*)(dGateUp + (i64)blockIdx.x * 2 * width);
    to[i] = dGate;
    to[width / 8 + i] = dUp;
    ((Eight<ELEMENT>*)(y + (i64)blockIdx.x * width))[i] = out;
}
