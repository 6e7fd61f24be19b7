// A block of GPU threads as fibers: cooperative, in turn, on one system thread.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

namespace emulated
{
struct Dim
{
    unsigned x, y, z;
};
/// A copy_async16 in flight. `source` is what it reads when it is waited for.
struct Copy
{
    void* to;
    const void* source;
    int group;
};

/// A copy that a thread issued before wait_for_previous_kernel, and the bytes that it found.
struct EarlyCopy
{
    const void* from;
    char bytes[16];
};
typedef std::vector<std::vector<EarlyCopy>> EarlyCopies; // by thread of the grid

struct Fiber
{
    Dim thread;
    void* stack_pointer;
    std::unique_ptr<char[]> stack;
    bool done;
    std::deque<Copy> copies; // of copy_async16
    int groups;
    bool waited;        // wait_for_previous_kernel was called
    size_t earlyCopies; // issued before
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

/// What copy_async16 and wait_for_previous_kernel do.
void copy16(void* to, const void* from);
void wait_for_previous_kernel();

/// How a kernel is launched.
struct Launch
{
    void (*kernel)(void**);
    void** parameters;
    Dim grid, block;
    unsigned shared_bytes;
};

/// Runs a kernel for each thread of each block, one block after another. Copies that it issues before it waits for the
/// kernel before it find what `early` holds, if it is not empty.
void run(const Launch& launch, const EarlyCopies& early);

/// Runs each thread up to wait_for_previous_kernel and keeps what its copies read there: called before the previous
/// kernel runs, because on a GPU a kernel that does not wait may see none of that kernel's results.
EarlyCopies run_until_wait(const Launch& launch);
} // namespace emulated
