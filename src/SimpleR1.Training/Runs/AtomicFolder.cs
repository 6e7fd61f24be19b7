using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text.Json;

namespace SimpleR1.Training.Runs;

/// <summary>
/// Folders that are there completely or not at all, such as checkpoints: written beside their place, flushed to disk with a manifest
/// of SHA-256 hashes, then renamed. Whatever happens in between, what was there before stays as it was.
/// </summary>
public static class AtomicFolder
{
    /// <summary>File of hashes in every such folder.</summary>
    public const string Manifest = "manifest.json";
    private const string Unfinished = ".tmp";

    private sealed record Entry(long Bytes, string Sha256);

    /// <summary>Calls <paramref name="write"/> with an empty folder to fill, and makes it <paramref name="folder"/> once it is safely on disk. A folder already there is replaced.</summary>
    /// <exception cref="IOException">The disk is full (says how much was written, how much is free, and what to do), or another fault while writing.</exception>
    public static void Write(string folder, Action<string> write)
    {
        folder = Path.GetFullPath(folder);
        string parent = Path.GetDirectoryName(folder)!,
            temporary = folder + Unfinished;
        Directory.CreateDirectory(parent);
        if (Directory.Exists(temporary))
            Directory.Delete(temporary, recursive: true); // from a run that was killed here
        Directory.CreateDirectory(temporary);
        try
        {
            write(temporary);
            WriteManifest(temporary);
            Replace(folder, temporary);
            FileSync.Directory(parent);
        }
        catch (Exception e)
        {
            bool full = IsDiskFull(e);
            long written = full ? Files(temporary).Sum(f => new FileInfo(f).Length) : 0,
                free = full ? new DriveInfo(parent).AvailableFreeSpace : 0;
            if (Directory.Exists(temporary))
                Directory.Delete(temporary, recursive: true);
            if (!full && e is IOException or UnauthorizedAccessException)
                throw new IOException(
                    $"can't write {folder}: {e.Message}. Folders written before are intact; make {parent} writable, then continue with --resume.",
                    e
                );
            if (!full)
                throw;
            throw new IOException(
                $"disk full while writing {folder}: {Mib(written)} were written and {Mib(free)} were free when it failed. The partial folder was removed; "
                    + $"folders written before are intact. Free some space on the disk of {parent} (or keep fewer checkpoints), then continue with --resume.",
                e
            );
        }
    }

    /// <summary>Checks every file against the manifest.</summary>
    /// <exception cref="InvalidDataException">No manifest, or files that are missing or changed: all of them are named.</exception>
    public static void Verify(string folder)
    {
        string path = Path.Combine(folder, Manifest);
        if (!File.Exists(path))
            throw new InvalidDataException(
                $"{folder}: no {Manifest}; the folder was not written completely, use an earlier one"
            );
        Dictionary<string, Entry> entries;
        try
        {
            entries =
                JsonSerializer.Deserialize<Dictionary<string, Entry>>(File.ReadAllText(path), JsonSerializerOptions.Web)
                ?? [];
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}: not a manifest: {e.Message}", e);
        }
        var problems = entries
            .Select(e => Problem(Path.Combine(folder, e.Key), e.Key, e.Value))
            .OfType<string>()
            .ToList();
        if (problems.Count > 0)
            throw new InvalidDataException($"{folder}: damaged, use an earlier one: {string.Join("; ", problems)}");
    }

    private static string? Problem(string path, string name, Entry entry) =>
        !File.Exists(path) ? $"{name} is missing"
        : new FileInfo(path).Length is var bytes && bytes != entry.Bytes
            ? $"{name} has {bytes} bytes, expected {entry.Bytes}"
        : Hash(path) != entry.Sha256 ? $"{name} has other contents (SHA-256 differs)"
        : null;

    private static void WriteManifest(string folder)
    {
        var entries = Files(folder)
            .Order(StringComparer.Ordinal)
            .ToDictionary(
                f => Path.GetRelativePath(folder, f).Replace('\\', '/'),
                f => new Entry(new FileInfo(f).Length, Hash(f))
            );
        File.WriteAllText(
            Path.Combine(folder, Manifest),
            JsonSerializer.Serialize(
                entries,
                new JsonSerializerOptions(JsonSerializerOptions.Web) { WriteIndented = true }
            )
        );
        foreach (string file in Files(folder))
            FileSync.File(file);
        foreach (
            string inner in Directory.EnumerateDirectories(folder, "*", SearchOption.AllDirectories).Append(folder)
        )
            FileSync.Directory(inner);
    }

    private static void Replace(string folder, string temporary)
    {
        string old = folder + ".old" + Unfinished;
        if (Directory.Exists(old))
            Directory.Delete(old, recursive: true);
        bool replaces = Directory.Exists(folder);
        if (replaces)
            Directory.Move(folder, old); // rename can't replace a folder that is not empty
        Directory.Move(temporary, folder);
        if (replaces)
            Directory.Delete(old, recursive: true);
    }

    private static IEnumerable<string> Files(string folder) =>
        Directory.Exists(folder) ? Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories) : [];

    private static string Hash(string path)
    {
        using var file = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(file));
    }

    private static string Mib(long bytes) => $"{bytes / (1024.0 * 1024):F1} MiB";

    /// <summary>ENOSPC, EDQUOT, or Windows' ERROR_DISK_FULL, at any depth.</summary>
    private static bool IsDiskFull(Exception? e) =>
        e is not null
        && (
            (e is IOException && (e.HResult is 28 or 122 || (uint)e.HResult == 0x80070070))
            || IsDiskFull(e.InnerException)
        );
}

/// <summary>fsync of files and, what .NET lacks, of folders, without which a rename may be lost with the power.</summary>
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
        int failed = Fsync(descriptor),
            error = Marshal.GetLastPInvokeError();
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
