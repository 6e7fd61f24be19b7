using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace SimpleR1.Tensors.Cuda.Libraries;

/// <summary>
/// The folder in which compiled kernels and chosen products are kept: <c>SIMPLE_R1_KERNEL_CACHE</c>, else
/// ~/.cache/simple-r1/kernels. What is in it runs on the GPU, so it is refused where another user could have written it.
/// </summary>
internal static partial class KernelCache
{
    private const UnixFileMode OthersWrite = UnixFileMode.GroupWrite | UnixFileMode.OtherWrite;
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;

    private static readonly Lock gate = new();
    private static readonly HashSet<string> reported = [];

    /// <summary>Where a file is kept, or would be; null where the folder or the file can't be trusted, or not be made.</summary>
    public static string? PathOf(string name) => PathOf(Folder(), name, Console.Error.WriteLine);

    /// <param name="warn">Takes a line about what is refused, once in this process.</param>
    internal static string? PathOf(string folder, string name, Action<string> warn)
    {
        string path = Path.Combine(folder, name);
        try
        {
            if (OperatingSystem.IsWindows())
                Directory.CreateDirectory(folder);
            else
                Directory.CreateDirectory(folder, OwnerOnly);
            if ((Problem(folder) ?? (File.Exists(path) ? Problem(path) : null)) is not { } problem)
                return path;

            lock (gate)
                if (reported.Add(problem))
                    warn($"warning: {problem} Until then kernels are compiled at each start.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { } // every start compiles
        return null;
    }

    private static string Folder()
    {
        if (Environment.GetEnvironmentVariable("SIMPLE_R1_KERNEL_CACHE") is { Length: > 0 } folder)
            return folder;
        string? caches = Environment.GetEnvironmentVariable("XDG_CACHE_HOME");
        if (string.IsNullOrEmpty(caches))
            caches = Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");
        return Path.Combine(caches, "simple-r1", "kernels");
    }

    /// <summary>Why a file or folder is not this user's alone to write, and what to do; null where it is.</summary>
    private static string? Problem(string path)
    {
        if (!OperatingSystem.IsLinux())
            return null;

        uint owner = Owner(path),
            self = geteuid();
        if (owner != self && owner != 0)
            return $"kernel cache: {path} belongs to user {owner}, whose code would run on the GPU. "
                + "Set SIMPLE_R1_KERNEL_CACHE to a folder of your own.";
        if ((File.GetUnixFileMode(path) & OthersWrite) != 0)
            return $"kernel cache: other users may write to {path}, and their code would run on the GPU. "
                + $"Delete it, or, if you trust what is in it: chmod go-w {path}.";
        return null;
    }

    /// <exception cref="IOException">The file is gone.</exception>
    private static unsafe uint Owner(string path)
    {
        const int CurrentFolder = -100; // AT_FDCWD
        const uint UserId = 8; // STATX_UID
        byte* status = stackalloc byte[256]; // struct statx, alike on all architectures
        if (statx(CurrentFolder, path, 0, UserId, status) != 0)
            throw new IOException($"{path}: {Marshal.GetLastPInvokeErrorMessage()}");
        return BinaryPrimitives.ReadUInt32LittleEndian(new ReadOnlySpan<byte>(status + 20, sizeof(uint)));
    }

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    private static unsafe partial int statx(int folder, string path, int flags, uint mask, byte* status);

    [LibraryImport("libc")]
    private static partial uint geteuid();
}
