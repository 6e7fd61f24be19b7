using System.Runtime.InteropServices;

namespace SimpleR1.Training.Runs.Files;

/// <summary>Flushes files to disk, and folders, which .NET can't: without it a power failure may undo a rename.</summary>
internal static partial class FileSync
{
    public static void File(string path)
    {
        using var handle = System.IO.File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite);
        RandomAccess.FlushToDisk(handle);
    }

    public static void Directory(string path)
    {
        if (OperatingSystem.IsWindows())
            return; // folders can't be flushed there
        int descriptor = Open(path, 0);
        if (descriptor < 0)
            throw new IOException(
                $"can't open {path} to flush it: {Marshal.GetLastPInvokeErrorMessage()}",
                Marshal.GetLastPInvokeError()
            );
        int failed = Fsync(descriptor);
        int error = Marshal.GetLastPInvokeError();
        _ = Close(descriptor);
        if (failed != 0)
            throw new IOException($"can't flush {path}: {Marshal.GetPInvokeErrorMessage(error)}", error);
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int Fsync(int descriptor);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int descriptor);
}
