using System.Runtime.InteropServices;

namespace SimpleR1.Tensors.Cpu;

/// <summary>Working memory of one thread, grown as needed and kept for the next call.</summary>
internal static unsafe class Scratch
{
    [ThreadStatic]
    private static float* memory;

    [ThreadStatic]
    private static long capacity;

    /// <summary>
    /// At least <paramref name="floats"/> floats, 64-byte aligned, contents unspecified; valid until the thread's
    /// next call.
    /// </summary>
    public static float* Rent(long floats)
    {
        if (floats <= capacity)
            return memory;
        NativeMemory.AlignedFree(memory);
        capacity = Math.Max(floats, 2 * capacity);
        return memory = (float*)NativeMemory.AlignedAlloc((nuint)(capacity * sizeof(float)), 64);
    }
}
