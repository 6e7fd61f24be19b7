using System.Text;

namespace SimpleR1.Cluster.Processes;

/// <summary>
/// Appends lines to a file and never fails its writer. A full disk costs lines of the log; writers of results report it.
/// </summary>
internal sealed class LogFile : TextWriter
{
    private readonly Lock gate = new();
    private readonly string path;

    /// <exception cref="IOException">The file can't be made.</exception>
    public LogFile(string path)
    {
        this.path = path;
        File.AppendAllText(path, "");
    }

    public override Encoding Encoding => Encoding.UTF8;

    public override void WriteLine(string? line)
    {
        lock (gate)
            try
            {
                File.AppendAllText(path, line + "\n");
            }
            catch (IOException) { }
    }
}
