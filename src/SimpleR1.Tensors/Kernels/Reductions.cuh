// Sums over a warp or a block.

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

/// The sum of x over the threads before this one in its block. `scratch` holds 32 numbers and may be used again after
/// the next barrier.
template <class T>
__device__ __forceinline__ T prefix_sum(T x, T* scratch)
{
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    T sum = x;
    for (int step = 1; step < 32; step <<= 1)
    {
        T before = __shfl_up_sync(FULL_WARP, sum, step);
        if (lane >= step) sum += before;
    }
    if (lane == 31) scratch[warp] = sum;
    __syncthreads(); // all warps' sums are in scratch
    sum -= x;
    for (int i = 0; i < warp; i++) sum += scratch[i];
    return sum;
}
