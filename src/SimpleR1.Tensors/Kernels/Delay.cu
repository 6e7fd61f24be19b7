// Does nothing for a while: keeps the GPU busy while the host launches what is to be measured.

#include "Prelude.cuh"

extern "C" __global__ void delay(int nanoseconds)
{
    u64 begin = global_nanoseconds();
    while (global_nanoseconds() - begin < (u64)nanoseconds)
    {
    }
}
