namespace SimpleR1.Models.Checkpoints;

/// <summary>Finds the files of a model below the path that a person gives.</summary>
public static class ModelFolder
{
    /// <summary>
    /// The folder with a model's files: the path itself, or in the Hugging Face cache (<c>models--Qwen--…</c>) the
    /// snapshot that <c>refs/main</c> names, or the only one.
    /// </summary>
    /// <exception cref="InvalidDataException">It holds several snapshots, and none is the main one.</exception>
    public static string Resolve(string path)
    {
        string snapshots = Path.Combine(path, "snapshots");
        if (File.Exists(Path.Combine(path, "config.json")) || !Directory.Exists(snapshots))
            return path;

        string main = Path.Combine(path, "refs", "main");
        if (File.Exists(main))
        {
            string named = Path.Combine(snapshots, File.ReadAllText(main).Trim());
            if (Directory.Exists(named))
                return named;
        }

        string[] all = [.. Directory.GetDirectories(snapshots).Order(StringComparer.Ordinal)];
        return all.Length switch
        {
            1 => all[0],
            0 => throw new InvalidDataException($"{path}: a folder of the Hugging Face cache without a snapshot"),
            _ => throw new InvalidDataException(
                $"{path}: a folder of the Hugging Face cache with {all.Length} snapshots, none of them named by "
                    + $"refs/main. Give the path of one: {string.Join(", ", all)}"
            ),
        };
    }
}
