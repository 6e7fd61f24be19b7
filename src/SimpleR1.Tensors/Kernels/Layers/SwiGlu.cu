// silu(gate) · up (Shazeer 2020). Reference: Cpu/Layers/SwiGlu.cs.

#include "Prelude.cuh"

/// gateUp [rows, 2 · width] → y [rows, width]; width % 8 == 0. Grid: (rows, ceil(width / 8 / blockDim)): only x takes
/// more than 65,535.
extern "C" __global__ void swiglu(const ELEMENT* gateUp, ELEMENT* y, int width)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    int i = blockIdx.y * blockDim.x + threadIdx.x;
    if (i >= width / 8) return;
    const Eight<ELEMENT>* row = (const Eight<ELEMENT>*)(gateUp + (i64)blockIdx.x * 2 * width);
    Eight<ELEMENT> gate = row[i], up = row[width / 8 + i], out;
    for (int k = 0; k < 8; k++)
    {
        float g = to_float(gate.at[k]);
        out.at[k] = from_float<ELEMENT>(g / (1 + __expf(-g)) * to_float(up.at[k]));
    }
    ((Eight<ELEMENT>*)(y + (i64)blockIdx.x * width))[i] = out;
}
