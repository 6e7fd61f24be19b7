// A step's inputs on the device. The host sends one buffer a step. What it can't know yet, the token that the step
// before draws, is already here: the sampler writes it into a table of all tokens of all sequences.

#include "Prelude.cuh"

/// Writes runs of numbers into tables. Run r = {table, start, count, first}: count numbers from payload[first] on go to
/// tables[table][start ..].
/// Grid: one block a run.
extern "C" __global__ void scatter(const int4* runs, const int* payload, int* tokens, int* tables, int* parameters)
{
    wait_for_previous_kernel();
    int4 run = runs[blockIdx.x];
    int* to = (run.x == 0 ? tokens : run.x == 1 ? tables : parameters) + run.y;
    for (int i = threadIdx.x; i < run.z; i += blockDim.x) to[i] = payload[run.w + i];
}

/// From (slot, position) of each token: its id and its position for the forward pass; and where each warp of
/// paged_decode starts. slots [tokens] (−1: padding), at [tokens]; plan = {rows that decode, warps, tiles a warp, -};
/// tilesBefore [rows + 1] counts tiles of 16 keys. starts[2 · warp ..] = {row, kv head, tile, tiles of the row}, {the
/// row's length and slot, the tile's block, -}. Grid: enough threads for max(tokens, warps).
extern "C" __global__ void prepare_step(
    const int* slots, const int* at, int count, const int* tokens, int tokenStride, i64* ids, i64* positions,
    const int* plan, const int* tilesBefore, const int* decodeSlots, const int* decodeAt, const int* tables,
    int tableStride, int4* starts
)
{
    wait_for_previous_kernel();
    let_next_kernel_start();
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count)
    {
        int slot = slots[i], position = slot < 0 ? 0 : at[i];
        ids[i] = slot < 0 ? -1 : tokens[(i64)slot * tokenStride + position];
        positions[i] = position;
    }
    int rows = plan[0], warps = plan[1], perWarp = plan[2];
    if (i >= warps) return;
    int unit = i * perWarp, units = tilesBefore[rows] * KV_HEADS;
    if (unit >= units) return;

    // The last row whose units begin at or before this one, by bisection.
    int low = 0, high = rows - 1;
    while (low < high)
    {
        int middle = (low + high + 1) / 2;
        if (tilesBefore[middle] * KV_HEADS <= unit)
            low = middle;
        else
            high = middle - 1;
    }
    int inRow = unit - tilesBefore[low] * KV_HEADS, tiles = tilesBefore[low + 1] - tilesBefore[low];
    int tile = inRow % tiles, slot = decodeSlots[low];
    starts[2 * i] = make_int4(low, inRow / tiles, tile, tiles);
    starts[2 * i + 1] = make_int4(decodeAt[low] + 1, slot, tables[(i64)slot * tableStride + tile * 16 / BLOCK], 0);
}
