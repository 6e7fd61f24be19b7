namespace SimpleR1.Models.Json;

/// <summary>The small text that a checkout without Git LFS has in place of a large file.</summary>
internal static class LfsPointer
{
    private static ReadOnlySpan<byte> Beginning => "version https://git-lfs.github.com/spec/"u8;

    /// <exception cref="InvalidDataException">The bytes are such a text.</exception>
    public static void Refuse(string path, ReadOnlySpan<byte> bytes)
    {
        if (bytes.StartsWith(Beginning))
            throw new InvalidDataException(
                $"{path}: a Git LFS pointer, not the file itself. Run 'git lfs pull' in the model's repository, "
                    + "or download the file again."
            );
    }
}
