// Sums and maxima over a warp or a block.

template <class T>
__device__ __forceinline__ T warp_sum(T x)
{
    for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(FULL_WARP, x, step);
    return x;
}

/// The sum over a block of up to 1,024 threads, in all of them. `scratch` holds 32 numbers and may be used again
/// after the next barrier.
template <class T>
__device__ __forceinline__ T block_sum(T x, T* scratch)
{
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
    x = warp_sum(x);
    if (lane == 0) scratch[warp] = x;
    __syncthreads(); // all warps' sums are in scratch
    x = lane < warps ? scratch[lane] : (T)0;
    return warp_sum(x);
}
