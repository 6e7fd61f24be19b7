// A block of GPU threads as fibers: cooperative, in turn, on one system thread.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

namespace emulated
{
struct Dim
{
    unsigned x, y, z;
};
struct Copy
{
    void* to;
    const void* from;
    int group;
};

struct Fiber
{
    Dim thread;
    void* stack_pointer;
    std::vector<char> stack;
    bool done;
    std::deque<Copy> copies; // of copy_async16
    int groups;
};

/// Threads that meet: a barrier opens when all that still run have arrived.
struct Meeting
{
    int alive = 0, arrived = 0;
    unsigned generation = 0;
    char slots[32][32]; // what the lanes of a warp hand each other

    void open_if_complete()
    {
        if (arrived == 0 || arrived < alive) return;
        arrived = 0;
        generation++;
    }
};

extern Fiber* current;
extern Dim block, block_size, grid_size;
extern uint8_t* dynamic_shared;
extern Meeting whole_block;
extern std::vector<Meeting> warps;

void yield();

inline int index_of(const Dim& t) { return (int)(t.x + block_size.x * (t.y + block_size.y * t.z)); }
inline int lane() { return index_of(current->thread) % 32; }
inline Meeting& current_warp() { return warps[index_of(current->thread) / 32]; }

inline void meet(Meeting& m)
{
    unsigned generation = m.generation;
    m.arrived++;
    m.open_if_complete();
    while (m.generation == generation) yield();
}
inline void warp_barrier() { meet(current_warp()); }
inline void block_barrier() { meet(whole_block); }

/// Runs kernel(parameters) for each thread of each block, one block after another.
void run(void (*kernel)(void**), void** parameters, Dim grid, Dim block_dim, unsigned shared_bytes);
} // namespace emulated
