using System.Security.Cryptography;
using System.Text.Json;

namespace SimpleR1.Training.Runs.Files;

/// <summary>
/// Writes folders, such as checkpoints, that exist completely or not at all. A folder is written under a temporary
/// name, flushed to disk with a manifest of SHA-256 hashes, then renamed. Until then the folder of that name stays as
/// it was.
/// </summary>
public static class AtomicFolder
{
    /// <summary>Name of the file of hashes in every such folder.</summary>
    public const string Manifest = "manifest.json";
    private const string Unfinished = ".tmp";
    private static readonly JsonSerializerOptions ManifestJson = new(JsonSerializerOptions.Web)
    {
        WriteIndented = true,
    };

    private sealed record Entry(long Bytes, string Sha256);

    /// <summary>
    /// Calls <paramref name="write"/> with an empty folder to fill, and makes it <paramref name="folder"/> once it is
    /// safely on disk. An existing folder of that name is replaced.
    /// </summary>
    /// <exception cref="IOException">
    /// The disk is full, or writing failed otherwise. The message has what was written and free, and what to do.
    /// </exception>
    public static void Write(string folder, Action<string> write)
    {
        folder = Path.GetFullPath(folder);
        string parent = Path.GetDirectoryName(folder)!;
        string temporary = folder + Unfinished;
        Directory.CreateDirectory(parent);
        DeleteIfExists(temporary); // from a run that was killed here
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
            bool isDiskFull = IsDiskFull(e);
            long written = isDiskFull ? Files(temporary).Sum(f => LengthOf(f)) : 0;
            long free = isDiskFull ? new DriveInfo(parent).AvailableFreeSpace : 0;
            DeleteIfExists(temporary);
            if (isDiskFull)
                throw new IOException(
                    $"disk full while writing {folder}: {Mib(written)} were written and {Mib(free)} were free when it failed. "
                        + "The partial folder was removed; folders written before are intact. "
                        + $"Free some space on the disk of {parent} (or keep fewer checkpoints), then continue with --resume.",
                    e
                );
            if (e is IOException or UnauthorizedAccessException)
                throw new IOException(
                    $"can't write {folder}: {e.Message}. Folders written before are intact; "
                        + $"make {parent} writable, then continue with --resume.",
                    e
                );
            throw;
        }
    }

    /// <summary>Checks every file against the manifest.</summary>
    /// <exception cref="InvalidDataException">
    /// The manifest is missing, or files are missing or changed. The message names all of them.
    /// </exception>
    public static void Verify(string folder)
    {
        var problems = ReadManifest(folder)
            .Select(e => Problem(Path.Combine(folder, e.Key), e.Key, e.Value))
            .OfType<string>()
            .ToList();
        if (problems.Count > 0)
            throw new InvalidDataException($"{folder}: damaged, use an earlier one: {string.Join("; ", problems)}");
    }

    private static Dictionary<string, Entry> ReadManifest(string folder)
    {
        string path = Path.Combine(folder, Manifest);
        if (!File.Exists(path))
            throw new InvalidDataException(
                $"{folder}: no {Manifest}; the folder was not written completely, use an earlier one"
            );
        try
        {
            string text = File.ReadAllText(path);
            return JsonSerializer.Deserialize<Dictionary<string, Entry>>(text, JsonSerializerOptions.Web) ?? [];
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}: not a manifest: {e.Message}", e);
        }
    }

    private static string? Problem(string path, string name, Entry entry)
    {
        if (!File.Exists(path))
            return $"{name} is missing";
        long bytes = LengthOf(path);
        if (bytes != entry.Bytes)
            return $"{name} has {bytes} bytes, expected {entry.Bytes}";
        return Hash(path) == entry.Sha256 ? null : $"{name} has other contents (SHA-256 differs)";
    }

    private static void WriteManifest(string folder)
    {
        var entries = Files(folder)
            .Order(StringComparer.Ordinal)
            .ToDictionary(
                f => Path.GetRelativePath(folder, f).Replace('\\', '/'),
                f => new Entry(LengthOf(f), Hash(f))
            );
        File.WriteAllText(Path.Combine(folder, Manifest), JsonSerializer.Serialize(entries, ManifestJson));

        foreach (string file in Files(folder))
            FileSync.File(file);
        var folders = Directory.EnumerateDirectories(folder, "*", SearchOption.AllDirectories);
        foreach (string inner in folders.Append(folder))
            FileSync.Directory(inner);
    }

    private static void Replace(string folder, string temporary)
    {
        string old = folder + ".old" + Unfinished;
        DeleteIfExists(old);
        bool replaces = Directory.Exists(folder);
        if (replaces)
            Directory.Move(folder, old); // rename can't replace a folder that is not empty
        Directory.Move(temporary, folder);
        if (replaces)
            Directory.Delete(old, recursive: true);
    }

    private static void DeleteIfExists(string folder)
    {
        if (Directory.Exists(folder))
            Directory.Delete(folder, recursive: true);
    }

    private static IEnumerable<string> Files(string folder) =>
        Directory.Exists(folder) ? Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories) : [];

    private static string Hash(string path)
    {
        using var file = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(file));
    }

    private static string Mib(long bytes) => $"{bytes / (1024.0 * 1024):F1} MiB";

    /// <summary>True for ENOSPC, EDQUOT or Windows' ERROR_DISK_FULL, at any depth.</summary>
    private static bool IsDiskFull(Exception? e) =>
        e is not null
        && (
            (e is IOException && (e.HResult is 28 or 122 || (uint)e.HResult == 0x80070070))
            || IsDiskFull(e.InnerException)
        );

    /// <summary>Bytes of a file, or of the file that a link leads to.</summary>
    private static long LengthOf(string path)
    {
        using var file = File.OpenHandle(path);
        return RandomAccess.GetLength(file);
    }
}
