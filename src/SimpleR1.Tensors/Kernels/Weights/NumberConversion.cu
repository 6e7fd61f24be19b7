// Between the element types of weights: rounding to nearest, ties to even; NaN stays NaN.
// Reference: NumberConversion.Convert in SimpleR1.Models.

#include "Prelude.cuh"

/// In a buffer that packs tensors of several types, those of 4 bytes may lie at any even address.
__device__ __forceinline__ float load(const float* p)
{
    const u16* half = (const u16*)p;
    return __uint_as_float((u32)half[0] | (u32)half[1] << 16);
}
template <class T>
__device__ __forceinline__ float load(const T* p)
{
    return to_float(*p);
}

/// to[i] = from[i], i < count. Grid: any.
extern "C" __global__ void convert_numbers(const FROM* from, ELEMENT* to, i64 count)
{
    wait_for_previous_kernel(); // or copy: that one wrote what is read here
    for (i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (i64)gridDim.x * blockDim.x)
        to[i] = from_float<ELEMENT>(load(from + i));
}
