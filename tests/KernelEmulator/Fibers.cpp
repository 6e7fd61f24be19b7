#include "Fibers.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace emulated
{
Fiber* current;
Dim block, block_size, grid_size;
uint8_t* dynamic_shared;
Meeting whole_block;
std::vector<Meeting> warps;

static constexpr size_t StackBytes = 64 << 10;
static std::vector<Fiber> fibers; // of the largest block so far: a stack is expensive to make
static size_t block_threads;      // of them, those that run
static void* scheduler_stack;
static void (*body)(void**);
static void** body_parameters;
static int running;
static EarlyCopies* recording;
static const EarlyCopies* recorded;

extern "C" void emulated_switch(void** save, void* load);
asm(R"(
.text
.globl emulated_switch
.type emulated_switch,@function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

static Fiber* next_of(Fiber* from)
{
    size_t i = from - fibers.data();
    do i = i + 1 == block_threads ? 0 : i + 1;
    while (fibers[i].done);
    return &fibers[i];
}

void yield()
{
    Fiber* from = current;
    Fiber* to = next_of(from);
    if (to == from)
    {
        fprintf(stderr, "emulator: thread %u of block %u waits for threads that have ended\n", from->thread.x, block.x);
        abort();
    }
    current = to;
    emulated_switch(&from->stack_pointer, to->stack_pointer);
}

/// Ends the running thread. Its stack is used anew by the next block.
static void end_thread()
{
    Fiber* self = current;
    self->done = true;
    Meeting& warp = current_warp();
    warp.alive--;
    warp.open_if_complete();
    whole_block.alive--;
    whole_block.open_if_complete();
    void* ignored;
    if (--running == 0) emulated_switch(&ignored, scheduler_stack);
    current = next_of(self);
    emulated_switch(&ignored, current->stack_pointer);
}

static void start()
{
    body(body_parameters);
    end_thread();
}

void wait_for_previous_kernel()
{
    current->waited = true;
    if (recording) end_thread();
}

static size_t thread_of_grid()
{
    size_t number = block.x + grid_size.x * (block.y + (size_t)grid_size.y * block.z);
    return number * block_threads + (current - fibers.data());
}

void copy16(void* to, const void* from)
{
    Fiber& thread = *current;
    const void* source = from;
    if (recording)
    {
        EarlyCopy copy = {from, {}};
        if (from) memcpy(copy.bytes, from, sizeof copy.bytes);
        (*recording)[thread_of_grid()].push_back(copy);
    }
    else if (!thread.waited && !recorded->empty())
    {
        auto& copies = (*recorded)[thread_of_grid()];
        if (thread.earlyCopies >= copies.size() || copies[thread.earlyCopies].from != from)
        {
            fprintf(stderr, "emulator: before it waits, a kernel reads what the kernel before it writes: it copies from "
                            "another address (thread %u of block %u)\n", thread.thread.x, block.x);
            abort();
        }
        source = from ? copies[thread.earlyCopies].bytes : nullptr;
        thread.earlyCopies++;
    }
    thread.copies.push_back({to, source, thread.groups});
}

EarlyCopies run_until_wait(const Launch& launch)
{
    size_t blocks = (size_t)launch.grid.x * launch.grid.y * launch.grid.z;
    EarlyCopies copies(blocks * launch.block.x * launch.block.y * launch.block.z);
    recording = &copies;
    run(launch, {});
    recording = nullptr;
    return copies;
}

void run(const Launch& launch, const EarlyCopies& early)
{
    Dim block_dim = launch.block, grid = launch.grid;
    unsigned shared_bytes = launch.shared_bytes;
    size_t threads = (size_t)block_dim.x * block_dim.y * block_dim.z;
    std::vector<uint8_t> shared(shared_bytes + 256);
    recorded = &early;
    dynamic_shared = (uint8_t*)(((uintptr_t)shared.data() + 127) & ~(uintptr_t)127);
    body = launch.kernel;
    body_parameters = launch.parameters;
    block_size = block_dim;
    grid_size = grid;
    if (fibers.size() < threads) fibers.resize(threads);
    block_threads = threads;
    for (block.z = 0; block.z < grid.z; block.z++)
        for (block.y = 0; block.y < grid.y; block.y++)
            for (block.x = 0; block.x < grid.x; block.x++)
            {
                memset(dynamic_shared, 0xff, shared_bytes); // NaN: what was not written shows
                whole_block = {};
                whole_block.alive = running = (int)threads;
                warps.assign((threads + 31) / 32, {});
                for (size_t i = 0; i < threads; i++)
                {
                    Fiber& f = fibers[i];
                    f.thread = {
                        (unsigned)(i % block_dim.x), (unsigned)(i / block_dim.x % block_dim.y),
                        (unsigned)(i / block_dim.x / block_dim.y)};
                    if (!f.stack) f.stack.reset(new char[StackBytes]);
                    f.done = false;
                    f.copies.clear();
                    f.groups = 0;
                    f.waited = false;
                    f.earlyCopies = 0;
                    warps[i / 32].alive++;
                    auto top = (void**)(((uintptr_t)f.stack.get() + StackBytes) & ~(uintptr_t)15);
                    *--top = nullptr; // keeps the stack aligned as after a call
                    *--top = (void*)start; // where emulated_switch returns to
                    for (int r = 0; r < 6; r++) *--top = nullptr;
                    f.stack_pointer = top;
                }
                current = &fibers[0];
                emulated_switch(&scheduler_stack, current->stack_pointer);
            }
}
} // namespace emulated
