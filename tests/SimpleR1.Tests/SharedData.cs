using Xunit;

namespace SimpleR1.Tests;

/// <summary>
/// Larger models and datasets that are not part of the repository. Tests that need them are skipped, visibly, without
/// them.
/// </summary>
public static class SharedData
{
    /// <summary>The folder that holds SimpleR1.slnx.</summary>
    public static string RepositoryRoot { get; } = FindRoot();

    /// <summary>
    /// The folder that SIMPLE_R1_DATA names, or shared/data next to the repository; null if there is none.
    /// </summary>
    private static string? Folder
    {
        get
        {
            if (Environment.GetEnvironmentVariable("SIMPLE_R1_DATA") is { Length: > 0 } named)
                return named;

            string neighbour = System.IO.Path.Combine(RepositoryRoot, "..", "shared", "data");
            return Directory.Exists(neighbour) ? neighbour : null;
        }
    }

    /// <summary>The full path of a file or folder in the shared data; null if it is absent.</summary>
    public static string? Path(string relative)
    {
        if (Folder is not { } folder)
            return null;

        string path = System.IO.Path.GetFullPath(System.IO.Path.Combine(folder, relative));
        return File.Exists(path) || Directory.Exists(path) ? path : null;
    }

    /// <summary>Like <see cref="Path"/>, but skips the running test if the file or folder is absent.</summary>
    public static string Require(string relative)
    {
        string? path = Path(relative);
        Assert.SkipWhen(
            path is null,
            $"needs shared data '{relative}' (set SIMPLE_R1_DATA to the folder that holds it)"
        );
        return path!;
    }

    private static string FindRoot()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            if (File.Exists(System.IO.Path.Combine(folder.FullName, "SimpleR1.slnx")))
                return folder.FullName;
        throw new InvalidOperationException("SimpleR1.slnx not found above " + AppContext.BaseDirectory);
    }
}
