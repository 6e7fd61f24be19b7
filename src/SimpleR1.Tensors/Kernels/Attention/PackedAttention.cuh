// What the kernels of packed attention share: the layout of their tensors, tiles in shared memory, and products of
// tiles. The rows of the products are (token, query head) pairs of one kv head, so that grouped queries share loads of K
// and V, and the gradients of K and V are sums inside a block. Nothing is added atomically: the same input gives the
// same bits.
//
// qkv and its gradient: [tokens, (GROUP + 2) · KV_HEADS, HEAD_DIM]: all query heads, then all key heads, then all value
// heads. out and its gradient: [tokens, GROUP · KV_HEADS, HEAD_DIM]. logSum, delta: [tokens, GROUP · KV_HEADS] f32.
// A row of a segment (Operands/Segment.cs) is token · GROUP + head % GROUP, counted from the segment's first token.

constexpr int Chunks = HEAD_DIM / 8; // 16-byte chunks of a head
constexpr int Steps = HEAD_DIM / 16; // steps of a product along a head
constexpr int Keys = 64; // keys of a tile
constexpr int TokenStride = (GROUP + 2) * KV_HEADS * HEAD_DIM;
constexpr int OutStride = GROUP * KV_HEADS * HEAD_DIM;
constexpr float Log2E = 1.44269504f, Ln2 = 0.69314718f;

/// The two numbers of a register.
template <class T>
__device__ __forceinline__ float low_float(u32 x)
{
    T y;
    y.bits = (u16)x;
    return to_float(y);
}
template <class T>
__device__ __forceinline__ float high_float(u32 x)
{
    T y;
    y.bits = (u16)(x >> 16);
    return to_float(y);
}

/// Where chunk `chunk` of row `row` lies in a tile of shared memory: rows are rotated so that a matrix load meets every
/// bank once.
__device__ __forceinline__ int swizzled(int row, int chunk) { return row * HEAD_DIM + (chunk ^ (row % 8)) * 8; }

/// Keys numbered through: those of a prefix, then those of a segment.
struct SeenKeys
{
    int count; // of all
    int before; // of the prefix, 0 without one
    int prefixFirst; // token of key 0, with a prefix
    int shift; // from the number of a key after the prefix to its token

    __device__ __forceinline__ int token(int key) const { return key + (key < before ? prefixFirst : shift); }
};

/// Copies Keys keys or values of one head, from key `first` on, into a tile; those from `seen.count` on become zeros.
/// head: that of the batch's first token.
template <int Threads>
__device__ __forceinline__ void fetch_keys(ELEMENT* tile, const ELEMENT* head, SeenKeys seen, int first)
{
    for (int c = threadIdx.x; c < Keys * Chunks; c += Threads)
    {
        int row = c / Chunks, key = first + row;
        bool exists = key < seen.count;
        int token = seen.token(exists ? key : 0);
        copy_async16(tile + swizzled(row, c % Chunks), head + (i64)token * TokenStride + c % Chunks * 8, exists);
    }
}

/// Copies `count` rows (pairs of token and head) into a tile; `stride` is the distance of two tokens in elements.
template <int Threads>
__device__ __forceinline__ void fetch_rows(
    ELEMENT* tile, const ELEMENT* heads, int stride, int first, int rows, int count
)
{
    for (int c = threadIdx.x; c < count * Chunks; c += Threads)
    {
        int row = first + c / Chunks;
        bool exists = row < rows;
        int token = exists ? row / GROUP : 0, head = exists ? row % GROUP : 0;
        copy_async16(
            tile + swizzled(c / Chunks, c % Chunks), heads + (i64)token * stride + head * HEAD_DIM + c % Chunks * 8,
            exists
        );
    }
}

/// The left operands of a warp's 16 rows, from a tile.
__device__ __forceinline__ void load_left(u32 (&left)[Steps][4], const ELEMENT* tile, int firstRow)
{
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < Steps; k++) load_matrices(left[k], tile + swizzled(firstRow + lane % 16, 2 * k + lane / 16));
}

/// c[16 × 8·N] += left[16 × HEAD_DIM] · tileᵀ: column n of the result belongs to row n of the tile.
template <int N>
__device__ __forceinline__ void times_transposed(
    float (&c)[N][4], const u32 (&left)[Steps][4], const ELEMENT* tile, int firstRow = 0
)
{
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < Steps; k++)
#pragma unroll
        for (int n = 0; n < N / 2; n++)
        {
            u32 b[4];
            load_matrices(b, tile + swizzled(firstRow + n * 16 + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
            mma<ELEMENT>(c[2 * n], left[k], b[0], b[1]);
            mma<ELEMENT>(c[2 * n + 1], left[k], b[2], b[3]);
        }
}

/// The same with the left operand's 16 rows read from a tile for every step: no registers are held.
template <int N>
__device__ __forceinline__ void tile_times_transposed(
    float (&c)[N][4], const ELEMENT* leftTile, int leftRow, const ELEMENT* tile
)
{
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < Steps; k++)
    {
        u32 left[4];
        load_matrices(left, leftTile + swizzled(leftRow + lane % 16, 2 * k + lane / 16));
#pragma unroll
        for (int n = 0; n < N / 2; n++)
        {
            u32 b[4];
            load_matrices(b, tile + swizzled(n * 16 + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
            mma<ELEMENT>(c[2 * n], left, b[0], b[1]);
            mma<ELEMENT>(c[2 * n + 1], left, b[2], b[3]);
        }
    }
}

/// c[16 × HEAD_DIM] += left[16 × 16·N] · tile[16·N × HEAD_DIM].
template <int N>
__device__ __forceinline__ void times(
    float (&c)[HEAD_DIM / 8][4], const u32 (&left)[N][4], const ELEMENT* tile, int firstRow = 0
)
{
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int j = 0; j < HEAD_DIM / 16; j++)
        {
            u32 b[4];
            load_matrices_transposed(
                b, tile + swizzled(firstRow + n * 16 + lane / 8 % 2 * 8 + lane % 8, 2 * j + lane / 16)
            );
            mma<ELEMENT>(c[2 * j], left[n], b[0], b[1]);
            mma<ELEMENT>(c[2 * j + 1], left[n], b[2], b[3]);
        }
}

constexpr int RowWarps = 4, RowThreads = RowWarps * 32, TileRows = 16 * RowWarps;

/// What a block that owns rows computes: TileRows rows of one segment, which see its prefix and then the segment up to
/// their token. (Cuda/Operations/PackedItems.cs makes these.)
struct __align__(16) RowTile
{
    int first; // token of the segment
    int tokens; // of the segment
    int firstRow; // of the block
    int before; // tokens of the prefix, 0 without one
    int prefixFirst; // its first token

    __device__ __forceinline__ SeenKeys seen() const { return {before + tokens, before, prefixFirst, first - before}; }
};
