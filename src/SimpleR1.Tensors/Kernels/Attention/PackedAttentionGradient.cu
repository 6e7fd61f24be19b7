// The gradient of PackedAttention.cu: a block of the first kernel owns rows of queries, a block of the second owns a tile
// of keys and values. Both compute the scores again (FlashAttention-2, Dao 2023). The rows that see a prefix are many:
// several blocks share them, and the third kernel adds up what these found, always in the same order.
// Reference: Cpu/Attention/PackedAttentionKernel.cs (Backward).

#include "Prelude.cuh"
#include "PackedAttention.cuh"

/// Gradient of the queries, and delta = Σ out · dOut of each row, which the gradient of keys and values needs.
/// items, grid and shared memory as packed_attention.
extern "C" __global__ void __launch_bounds__(RowThreads, HEAD_DIM <= 64 ? 3 : 1) packed_attention_query_gradient(
    const ELEMENT* qkv, const ELEMENT* out, const ELEMENT* dOut, const float* logSum, float* delta, ELEMENT* dQkv,
    const RowTile* items, float scale
)
{
    DYNAMIC_SHARED(memory);
    wait_for_previous_kernel();
    RowTile item = items[blockIdx.x];
    SeenKeys seen = item.seen();
    int kv = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int rows = item.tokens * GROUP, firstRow = item.firstRow;
    int lastKey = seen.before + (min(firstRow + TileRows, rows) - 1) / GROUP, tiles = lastKey / Keys + 1;
    ELEMENT* stages = (ELEMENT*)memory;
    float toBase2 = scale * Log2E;
    const ELEMENT* queries = qkv + (i64)item.first * TokenStride + kv * GROUP * HEAD_DIM;
    const ELEMENT* keys = qkv + (GROUP * KV_HEADS + kv) * HEAD_DIM;
    const ELEMENT* values = keys + KV_HEADS * HEAD_DIM;
    const ELEMENT* dOuts = dOut + (i64)item.first * OutStride + kv * GROUP * HEAD_DIM;

    auto fetch = [&](int tile)
    {
        if (tile < tiles)
        {
            ELEMENT* stage = stages + tile % 2 * 2 * Keys * HEAD_DIM;
            fetch_keys<RowThreads>(stage, keys, seen, tile * Keys);
            fetch_keys<RowThreads>(stage + Keys * HEAD_DIM, values, seen, tile * Keys);
        }
        commit_copies();
    };

    ELEMENT* rowTiles = stages + 2 * Keys * HEAD_DIM; // queries and dOut, through the second stage
    fetch_rows<RowThreads>(rowTiles, queries, TokenStride, firstRow, rows, TileRows);
    fetch_rows<RowThreads>(rowTiles + TileRows * HEAD_DIM, dOuts, OutStride, firstRow, rows, TileRows);
    commit_copies();
    fetch(0);

    int column = lane % 4 * 2, row[2], own[2]; // own: the row's own key, the last that it sees
    i64 place[2];
    float sumOf[2], top[2];
#pragma unroll
    for (int r = 0; r < 2; r++)
    {
        row[r] = firstRow + warp * 16 + lane / 4 + 8 * r;
        own[r] = seen.before + row[r] / GROUP;
        place[r] = (i64)(seen.shift + own[r]) * GROUP * KV_HEADS + kv * GROUP + row[r] % GROUP;
        float products = 0;
        if (row[r] < rows)
        {
            const u32 *o = (const u32*)(out + place[r] * HEAD_DIM + column),
                      *g = (const u32*)(dOut + place[r] * HEAD_DIM + column);
#pragma unroll
            for (int j = 0; j < HEAD_DIM / 8; j++)
            {
                u32 a = o[4 * j], b = g[4 * j];
                products += low_float<ELEMENT>(a) * low_float<ELEMENT>(b) +
                            high_float<ELEMENT>(a) * high_float<ELEMENT>(b);
            }
        }
        products += __shfl_xor_sync(FULL_WARP, products, 1);
        products += __shfl_xor_sync(FULL_WARP, products, 2);
        sumOf[r] = products;
        top[r] = row[r] < rows ? logSum[place[r]] * Log2E : INFINITY_F; // a row beyond the segment has no weights
        if (row[r] < rows && lane % 4 == 0) delta[place[r]] = products;
    }
    wait_copies<1>();
    __syncthreads();
    u32 query[Steps][4], dRow[Steps][4];
    load_left(query, rowTiles, warp * 16);
    load_left(dRow, rowTiles + TileRows * HEAD_DIM, warp * 16);
    __syncthreads(); // every warp has its rows: the second stage may be filled

    float gradient[HEAD_DIM / 8][4] = {};
    int unmasked = (seen.before + firstRow / GROUP) / Keys;
    for (int tile = 0; tile < tiles; tile++)
    {
        fetch(tile + 1);
        wait_copies<1>();
        __syncthreads();
        const ELEMENT* stage = stages + tile % 2 * 2 * Keys * HEAD_DIM;
        float score[Keys / 8][4] = {}, dWeight[Keys / 8][4] = {};
        times_transposed<Keys / 8>(score, query, stage);
        times_transposed<Keys / 8>(dWeight, dRow, stage + Keys * HEAD_DIM);
        u32 dScore[Keys / 16][4];
#pragma unroll
        for (int r = 0; r < 2; r++)
        {
            int last = tile >= unmasked ? own[r] - tile * Keys : Keys;
#pragma unroll
            for (int n = 0; n < Keys / 8; n++)
            {
                float d[2];
#pragma unroll
                for (int i = 0; i < 2; i++)
                {
                    float p = exp2_fast(score[n][2 * r + i] * toBase2 - top[r]);
                    d[i] = n * 8 + column + i > last ? 0.0f : p * (dWeight[n][2 * r + i] - sumOf[r]);
                }
                dScore[n / 2][n % 2 * 2 + r] = pack2<ELEMENT>(d[0], d[1]);
            }
        }
        times<Keys / 16>(gradient, dScore, stage);
        __syncthreads(); // before the stage is filled again
    }
    let_next_kernel_start();
#pragma unroll
    for (int r = 0; r < 2; r++)
    {
        if (row[r] >= rows) continue;
        ELEMENT* to = dQkv + (i64)(seen.shift + own[r]) * TokenStride + (kv * GROUP + row[r] % GROUP) * HEAD_DIM +
                      column;
#pragma unroll
        for (int j = 0; j < HEAD_DIM / 8; j++)
            *(u32*)(to + 8 * j) = pack2<ELEMENT>(gradient[j][2 * r] * scale, gradient[j][2 * r + 1] * scale);
    }
}

constexpr int KeyThreads = Keys / 16 * 32, WalkedRows = 64;

/// What a block that owns keys computes: up to Keys keys of one segment, from the rows of tokens that see them. Tokens are
/// counted from the segment's first. Those that see a prefix come directly after it: a walk from its key on meets them
/// all, and the causal mask is right for them too. (Cuda/Operations/PackedItems.cs makes these.)
struct __align__(16) KeyTile
{
    int first; // token of the segment
    int tokens; // of the segment
    int firstKey; // of the block
    int walk; // the first token whose rows the block walks
    int end; // the token after the last of them
    int part; // where the block's sums go; −1: no other block walks rows of this tile, and dQkv is written
};

constexpr int PartSize = 2 * Keys * HEAD_DIM; // f32 sums of a tile's keys, then of its values

/// Gradients of the keys and values of one tile. Where several blocks share the rows of a tile, each writes its sums to
/// parts: [parts, KV_HEADS, PartSize]. Grid: (items, KV_HEADS). Dynamic shared memory: (4 · WalkedRows + 2 · Keys) · HEAD_DIM
/// elements and 4 · WalkedRows floats.
extern "C" __global__ void __launch_bounds__(KeyThreads, HEAD_DIM <= 64 ? 3 : 1) packed_attention_key_gradient(
    const ELEMENT* qkv, const ELEMENT* dOut, const float* logSum, const float* delta, ELEMENT* dQkv, float* parts,
    const KeyTile* items, float scale
)
{
    DYNAMIC_SHARED(memory);
    wait_for_previous_kernel();
    KeyTile item = items[blockIdx.x];
    int kv = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32, firstKey = item.firstKey;
    int rows = item.end * GROUP, firstRow = item.walk * GROUP, tiles = (rows - firstRow + WalkedRows - 1) / WalkedRows;
    ELEMENT* stages = (ELEMENT*)memory;
    float* numbers = (float*)(stages + 4 * WalkedRows * HEAD_DIM); // logSum and delta of a stage's rows
    float toBase2 = scale * Log2E;
    const ELEMENT* queries = qkv + (i64)item.first * TokenStride + kv * GROUP * HEAD_DIM;
    const ELEMENT* keys = qkv + (GROUP * KV_HEADS + kv) * HEAD_DIM;
    const ELEMENT* values = keys + KV_HEADS * HEAD_DIM;
    const ELEMENT* dOuts = dOut + (i64)item.first * OutStride + kv * GROUP * HEAD_DIM;

    ELEMENT* ownKeys = (ELEMENT*)(numbers + 4 * WalkedRows); // keys, then values
    SeenKeys segment = {item.tokens, 0, 0, item.first};
    fetch_keys<KeyThreads>(ownKeys, keys, segment, firstKey);
    fetch_keys<KeyThreads>(ownKeys + Keys * HEAD_DIM, values, segment, firstKey);
    commit_copies();
    auto fetch = [&](int tile)
    {
        if (tile < tiles)
        {
            int first = firstRow + tile * WalkedRows;
            ELEMENT* stage = stages + tile % 2 * 2 * WalkedRows * HEAD_DIM;
            float* number = numbers + tile % 2 * 2 * WalkedRows;
            fetch_rows<KeyThreads>(stage, queries, TokenStride, first, rows, WalkedRows);
            fetch_rows<KeyThreads>(stage + WalkedRows * HEAD_DIM, dOuts, OutStride, first, rows, WalkedRows);
            if (threadIdx.x < WalkedRows)
            {
                int row = first + threadIdx.x;
                i64 place = (i64)(item.first + row / GROUP) * GROUP * KV_HEADS + kv * GROUP + row % GROUP;
                number[threadIdx.x] = row < rows ? logSum[place] * Log2E : INFINITY_F;
                number[WalkedRows + threadIdx.x] = row < rows ? delta[place] : 0.0f;
            }
        }
        commit_copies();
    };
    fetch(0);

    int column = lane % 4 * 2;
    float dKey[HEAD_DIM / 8][4] = {}, dValue[HEAD_DIM / 8][4] = {};
    // Rows of tiles from this one on see every key of the block.
    constexpr int masked = (Keys * GROUP + WalkedRows - 1) / WalkedRows;
    for (int tile = 0; tile < tiles; tile++)
    {
        fetch(tile + 1);
        wait_copies<1>();
        __syncthreads(); // the tile's copies and numbers of all threads have arrived
        const ELEMENT* stage = stages + tile % 2 * 2 * WalkedRows * HEAD_DIM;
        const float* number = numbers + tile % 2 * 2 * WalkedRows;
        int first = firstRow + tile * WalkedRows;
        float score[WalkedRows / 8][4] = {}, dWeight[WalkedRows / 8][4] = {}; // [16 keys × rows]
        tile_times_transposed<WalkedRows / 8>(score, ownKeys, warp * 16, stage);
        tile_times_transposed<WalkedRows / 8>(
            dWeight, ownKeys + Keys * HEAD_DIM, warp * 16, stage + WalkedRows * HEAD_DIM
        );
        u32 weights[WalkedRows / 16][4], dScore[WalkedRows / 16][4];
#pragma unroll
        for (int n = 0; n < WalkedRows / 8; n++)
        {
            float2 top = *(const float2*)(number + n * 8 + column),
                   sumOf = *(const float2*)(number + WalkedRows + n * 8 + column);
            int token0 = 0, token1 = 0;
            if (tile < masked)
            {
                token0 = (first + n * 8 + column) / GROUP;
                token1 = (first + n * 8 + column + 1) / GROUP;
            }
#pragma unroll
            for (int r = 0; r < 2; r++)
            {
                int own = firstKey + warp * 16 + lane / 4 + 8 * r;
                float p0 = exp2_fast(score[n][2 * r] * toBase2 - top.x),
                      p1 = exp2_fast(score[n][2 * r + 1] * toBase2 - top.y);
                if (tile < masked)
                {
                    if (own > token0) p0 = 0;
                    if (own > token1) p1 = 0;
                }
                weights[n / 2][n % 2 * 2 + r] = pack2<ELEMENT>(p0, p1);
                dScore[n / 2][n % 2 * 2 + r] =
                    pack2<ELEMENT>(p0 * (dWeight[n][2 * r] - sumOf.x), p1 * (dWeight[n][2 * r + 1] - sumOf.y));
            }
        }
        times<WalkedRows / 16>(dValue, weights, stage + WalkedRows * HEAD_DIM);
        times<WalkedRows / 16>(dKey, dScore, stage);
        __syncthreads(); // before the stage is filled again
    }
    let_next_kernel_start();
    int tokens = items[blockIdx.x].tokens, part = items[blockIdx.x].part; // read late: the loop needs the registers
#pragma unroll
    for (int r = 0; r < 2; r++)
    {
        int own = firstKey + warp * 16 + lane / 4 + 8 * r;
        if (own >= tokens) continue;
        if (part >= 0)
        {
            float* to = parts + ((i64)part * KV_HEADS + kv) * PartSize + (own - firstKey) * HEAD_DIM + column;
#pragma unroll
            for (int j = 0; j < HEAD_DIM / 8; j++)
            {
                *(float2*)(to + 8 * j) = make_float2(dKey[j][2 * r], dKey[j][2 * r + 1]);
                *(float2*)(to + Keys * HEAD_DIM + 8 * j) = make_float2(dValue[j][2 * r], dValue[j][2 * r + 1]);
            }
            continue;
        }
        ELEMENT* to = dQkv + (i64)(item.first + own) * TokenStride + (GROUP * KV_HEADS + kv) * HEAD_DIM + column;
#pragma unroll
        for (int j = 0; j < HEAD_DIM / 8; j++)
        {
            *(u32*)(to + 8 * j) = pack2<ELEMENT>(dKey[j][2 * r] * scale, dKey[j][2 * r + 1] * scale);
            *(u32*)(to + KV_HEADS * HEAD_DIM + 8 * j) = pack2<ELEMENT>(dValue[j][2 * r], dValue[j][2 * r + 1]);
        }
    }
}

constexpr int SumThreads = 256, SumBlocks = PartSize / 4 / SumThreads; // a thread adds up four neighbours

/// Gradients of keys and values from the parts of their sums. sums: {the tile's first token, its keys, first part, parts}.
/// Grid: (sums, SumBlocks · KV_HEADS).
extern "C" __global__ void __launch_bounds__(SumThreads)
    packed_attention_add_parts(const float* parts, ELEMENT* dQkv, const int4* sums, float scale)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    int4 tile = sums[blockIdx.x];
    int kv = blockIdx.y / SumBlocks, place = (blockIdx.y % SumBlocks * SumThreads + threadIdx.x) * 4;
    int isValue = place / (Keys * HEAD_DIM), key = place / HEAD_DIM % Keys;
    if (key >= tile.y) return;
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 8
    for (int part = tile.z; part < tile.z + tile.w; part++)
    {
        float4 x = *(const float4*)(parts + ((i64)part * KV_HEADS + kv) * PartSize + place);
        sum = make_float4(sum.x + x.x, sum.y + x.y, sum.z + x.z, sum.w + x.w);
    }
    float factor = isValue ? 1 : scale;
    i64 head = (i64)(tile.x + key) * TokenStride + (GROUP * KV_HEADS + isValue * KV_HEADS + kv) * HEAD_DIM;
    u32* to = (u32*)(dQkv + head + place % HEAD_DIM);
    to[0] = pack2<ELEMENT>(sum.x * factor, sum.y * factor);
    to[1] = pack2<ELEMENT>(sum.z * factor, sum.w * factor);
}
