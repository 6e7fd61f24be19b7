// The emulator's counterpart of src/SimpleR1.Tensors/Kernels/Prelude.cuh: the same names in plain C++. A block's
// threads are fibers of one system thread (see Fibers.h); a fiber that waits for other threads of its warp or block
// switches to the next one.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include "Fibers.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;
typedef long long i64;

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__ static
#define __restrict__
#define FULL_WARP 0xffffffffu
#define INFINITY_F INFINITY
#define DYNAMIC_SHARED(name) u8* name = emulated::dynamic_shared

using std::max;
using std::min;
struct alignas(8) int2
{
    int x, y;
};
struct alignas(16) int4
{
    int x, y, z, w;
};
struct alignas(8) float2
{
    float x, y;
};
struct alignas(16) float4
{
    float x, y, z, w;
};
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

#define threadIdx (emulated::current->thread)
#define blockIdx (emulated::block)
#define blockDim (emulated::block_size)
#define gridDim (emulated::grid_size)

template <class To, class From>
static inline To bits_as(From x)
{
    To y;
    static_assert(sizeof(To) == sizeof(From));
    memcpy(&y, &x, sizeof y);
    return y;
}
static inline float __uint_as_float(u32 x) { return bits_as<float>(x); }
static inline u32 __float_as_uint(float x) { return bits_as<u32>(x); }
static inline float __int_as_float(int x) { return bits_as<float>(x); }
static inline int __float_as_int(float x) { return bits_as<int>(x); }
static inline int __clz(u32 x) { return x ? __builtin_clz(x) : 32; }
static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
#define __expf expf
static inline float exp2_fast(float x) { return exp2f(x); }

static inline void __syncthreads() { emulated::block_barrier(); }
static inline void __syncwarp() { emulated::warp_barrier(); }
static inline void __threadfence() {}
template <class T>
static inline T exchange(T x, int from)
{
    auto& warp = emulated::current_warp();
    memcpy(warp.slots[emulated::lane()], &x, sizeof x);
    emulated::warp_barrier();
    T y;
    memcpy(&y, warp.slots[from % 32], sizeof y);
    emulated::warp_barrier();
    return y;
}
template <class T>
static inline T __shfl_xor_sync(u32, T x, int step)
{
    return exchange(x, emulated::lane() ^ step);
}
static inline u32 __ballot_sync(u32 lanes, bool vote)
{
    u32 votes = vote ? 1u << emulated::lane() : 0;
    for (int step = 16; step > 0; step >>= 1) votes |= __shfl_xor_sync(lanes, votes, step);
    return votes;
}
static inline int __popc(u32 x) { return __builtin_popcount(x); }
static inline int __ffs(u32 x) { return __builtin_ffs((int)x); }
template <class T>
static inline T __shfl_sync(u32, T x, int from)
{
    return exchange(x, from);
}
template <class T>
static inline T __shfl_up_sync(u32, T x, int step)
{
    int from = emulated::lane() - step;
    return exchange(x, from < 0 ? emulated::lane() : from);
}
static inline bool __any_sync(u32, bool x)
{
    auto& warp = emulated::current_warp();
    warp.slots[emulated::lane()][0] = x;
    emulated::warp_barrier();
    bool any = false;
    for (int i = 0; i < warp.alive; i++) any |= warp.slots[i][0] != 0;
    emulated::warp_barrier();
    return any;
}
template <class T, class U>
static inline T atomicAdd(T* p, U x)
{
    T before = *p;
    *p += (T)x;
    return before;
}
template <class T>
static inline T atomicMax(T* p, T x)
{
    T before = *p;
    *p = max(*p, x);
    return before;
}
template <class T>
static inline T atomicMin(T* p, T x)
{
    T before = *p;
    *p = min(*p, x);
    return before;
}
static inline u32 atomicOr(u32* p, u32 x)
{
    u32 before = *p;
    *p |= x;
    return before;
}

struct bf16
{
    u16 bits;
};
struct f16
{
    u16 bits;
};
static inline float to_float(float x) { return x; }
static inline float to_float(bf16 x) { return __uint_as_float((u32)x.bits << 16); }
static inline float to_float(f16 x) { return (float)bits_as<_Float16>(x.bits); }
template <class T>
static inline T from_float(float x);
template <>
inline float from_float<float>(float x)
{
    return x;
}
template <>
inline bf16 from_float<bf16>(float x)
{
    u32 b = __float_as_uint(x);
    return {(u16)(std::isnan(x) ? 0x7fff : (b + 0x7fff + (b >> 16 & 1)) >> 16)};
}
template <>
inline f16 from_float<f16>(float x)
{
    return {bits_as<u16>((_Float16)x)};
}
template <class T>
static inline u32 pack2(float low, float high)
{
    return from_float<T>(low).bits | (u32)from_float<T>(high).bits << 16;
}
template <class T>
struct alignas(16) Eight
{
    T at[8];
};

/// Element (row, column) of the operands of mma.m16n8k16, by the layouts of the PTX manual; every lane computes its
/// own four results.
template <class T>
static inline void mma(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1)
{
    struct Operands
    {
        u32 a[4], b[2];
    } mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    auto& warp = emulated::current_warp();
    memcpy(warp.slots[emulated::lane()], &mine, sizeof mine);
    emulated::warp_barrier();
    auto half_of = [](u32 x, int high) { return to_float(T{(u16)(high ? x >> 16 : x)}); };
    for (int i = 0; i < 4; i++)
    {
        int row = emulated::lane() / 4 + i / 2 * 8, column = emulated::lane() % 4 * 2 + i % 2;
        float sum = 0;
        for (int k = 0; k < 16; k++)
        {
            auto* left = (Operands*)warp.slots[row % 8 * 4 + k % 8 / 2];
            auto* right = (Operands*)warp.slots[column * 4 + k % 8 / 2];
            sum += half_of(left->a[k / 8 * 2 + row / 8], k % 2) * half_of(right->b[k / 8], k % 2);
        }
        c[i] += sum;
    }
    emulated::warp_barrier();
}

static inline void load_matrices(u32 (&r)[4], const void* row, bool transposed)
{
    auto& warp = emulated::current_warp();
    memcpy(warp.slots[emulated::lane()], &row, sizeof row);
    emulated::warp_barrier();
    for (int m = 0; m < 4; m++)
    {
        auto element = [&](int i, int j)
        {
            const u16* p;
            memcpy(&p, warp.slots[m * 8 + i], sizeof p);
            return (u32)p[j];
        };
        int i = emulated::lane() / 4, j = emulated::lane() % 4 * 2;
        r[m] = transposed ? element(j, i) | element(j + 1, i) << 16 : element(i, j) | element(i, j + 1) << 16;
    }
    emulated::warp_barrier();
}
static inline void load_matrices(u32 (&r)[4], const void* row) { load_matrices(r, row, false); }
static inline void load_matrices_transposed(u32 (&r)[4], const void* row) { load_matrices(r, row, true); }

// Copies happen when they are waited for, so that a missing wait shows; those that are issued before the kernel has
// waited for the one before it find memory as it was before that one.
static inline void copy_async16(void* shared, const void* global, bool valid)
{
    emulated::copy16(shared, valid ? global : nullptr);
}
static inline void commit_copies() { emulated::current->groups++; }
template <int N>
static inline void wait_copies()
{
    auto& copies = emulated::current->copies;
    while (!copies.empty() && copies.front().group < emulated::current->groups - N)
    {
        if (copies.front().source)
            memcpy(copies.front().to, copies.front().source, 16);
        else
            memset(copies.front().to, 0, 16);
        copies.pop_front();
    }
}
template <class T>
static inline T load_shared_l2(const T* p)
{
    return *p;
}
static inline u64 global_nanoseconds()
{
    static u64 now;
    return now += 1000000;
}
static inline void wait_for_previous_kernel() { emulated::wait_for_previous_kernel(); }
static inline void let_next_kernel_start() {}
