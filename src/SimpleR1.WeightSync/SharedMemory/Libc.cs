using System.ComponentModel;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace SimpleR1.WeightSync.SharedMemory;

/// <summary>The system calls of shared memory.</summary>
internal static unsafe partial class Libc
{
    private const uint CloseOnExec = 1; // memfd_create
    private const uint AllowSealing = 2;

    private const int AddSeals = 1033; // fcntl
    private const int SealShrink = 2;
    private const int SealGrow = 4;

    private const int ReadProtection = 1; // mmap
    private const int WriteProtection = 2;
    private const int Shared = 1;
    private const int Populate = 0x8000;

    /// <summary>
    /// Anonymous memory with a file descriptor. Its length is sealed, so a mapping never faults past the end.
    /// </summary>
    /// <exception cref="IOException">The system refuses the memory.</exception>
    public static SafeFileHandle CreateMemory(string name, long bytes)
    {
        int descriptor = memfd_create(name, CloseOnExec | AllowSealing);
        if (descriptor < 0)
            throw Failed($"creating {bytes:N0} bytes of shared memory");
        var memory = new SafeFileHandle(descriptor, ownsHandle: true);
        if (ftruncate(memory, bytes) != 0 || fcntl(memory, AddSeals, SealShrink | SealGrow) != 0)
        {
            var failure = Failed($"sizing shared memory to {bytes:N0} bytes");
            memory.Dispose();
            throw failure;
        }
        return memory;
    }

    /// <summary>Maps the file's first bytes, all pages at once, so that the first copy causes no page faults.</summary>
    /// <exception cref="IOException">The system refuses the mapping.</exception>
    public static nint Map(SafeFileHandle file, long bytes, bool writable)
    {
        nint address = mmap(
            0,
            (nuint)bytes,
            writable ? ReadProtection | WriteProtection : ReadProtection,
            Shared | Populate,
            file,
            0
        );
        return address != -1 ? address : throw Failed($"mapping {bytes:N0} bytes of shared memory");
    }

    public static void Unmap(nint address, long bytes)
    {
        if (munmap(address, (nuint)bytes) != 0)
            throw Failed($"unmapping {bytes:N0} bytes of shared memory");
    }

    private static IOException Failed(string what) =>
        new($"{what} failed: {new Win32Exception(Marshal.GetLastPInvokeError()).Message}");

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int memfd_create(string name, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int ftruncate(SafeFileHandle file, long length);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fcntl(SafeFileHandle file, int command, int argument);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint mmap(
        nint address,
        nuint length,
        int protection,
        int flags,
        SafeFileHandle file,
        long offset
    );

    [LibraryImport("libc", SetLastError = true)]
    private static partial int munmap(nint address, nuint length);
}
