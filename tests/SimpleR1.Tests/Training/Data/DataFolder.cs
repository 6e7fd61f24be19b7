using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes;
using Xunit;

namespace SimpleR1.Tests.Training.Data;

/// <summary>A folder of data files for a test.</summary>
public abstract class DataFolder : IDisposable
{
    protected string Folder { get; } = Directory.CreateTempSubdirectory("simple-r1-data-").FullName;

    /// <summary>Files that were not written by the library that reads them; their README says by what.</summary>
    protected static string Committed(string name) =>
        Path.Combine(SharedData.RepositoryRoot, "tests", "data", "rows", name);

    protected string Write(string name, string text) => Write(name, System.Text.Encoding.UTF8.GetBytes(text));

    protected string Write(string name, byte[] bytes)
    {
        string path = Path.Combine(Folder, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, bytes);
        return path;
    }

    /// <summary>The message that a source is refused with.</summary>
    protected static string Refused(DataSource source) =>
        Assert.Throws<InvalidDataException>(() => Dataset.Load(source)).Message;

    protected static string Refused(string path) => Refused(new DataSource { Path = path });

    public void Dispose()
    {
        Directory.Delete(Folder, recursive: true);
        GC.SuppressFinalize(this);
    }
}
