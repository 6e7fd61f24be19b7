using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;

namespace SimpleR1.Cluster.Processes;

/// <summary>
/// A process that ends when this one does. It holds the reading end of a pipe from this process (whose end of file is the
/// signal), and asks the kernel to be killed when the thread that started it ends; so all are started by one thread that never does.
/// </summary>
internal sealed class ChildProcess : IAsyncDisposable
{
    private const int TailLines = 12;
    private static readonly BlockingCollection<Action> Starts = [];

    private readonly Process process;
    private readonly LogFile? log;
    private readonly Queue<string> tail = [];
    private readonly TaskCompletionSource exited = new(TaskCreationOptions.RunContinuationsAsynchronously);

    static ChildProcess() =>
        new Thread(() =>
        {
            foreach (var start in Starts.GetConsumingEnumerable())
                start();
        })
        {
            IsBackground = true,
            Name = "child process starter",
        }.Start();

    private ChildProcess(ProcessStartInfo start, string name, LogFile? log)
    {
        this.log = log;
        process = new Process { StartInfo = start, EnableRaisingEvents = true };
        process.OutputDataReceived += (_, line) => Write(name, line.Data);
        process.ErrorDataReceived += (_, line) => Write(name, line.Data);
        process.Exited += (_, _) => exited.TrySetResult();
        process.Start();
        Id = process.Id;
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
    }

    public int Id { get; }

    /// <summary>Known when it has ended.</summary>
    public int ExitCode => process.ExitCode;

    /// <param name="command">Program and arguments.</param>
    /// <param name="name">In front of each line of its output on standard error.</param>
    /// <param name="logFile">Takes its output (appended) in place of standard error.</param>
    public static Task<ChildProcess> StartAsync(
        IEnumerable<string> command,
        string name,
        string? logFile,
        IReadOnlyDictionary<string, string> environment
    )
    {
        var start = new ProcessStartInfo(command.First(), command.Skip(1))
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
        };
        foreach (var (key, value) in environment)
            start.Environment[key] = value;
        var started = new TaskCompletionSource<ChildProcess>(TaskCreationOptions.RunContinuationsAsynchronously);
        Starts.Add(() =>
        {
            try
            {
                started.SetResult(new(start, name, logFile is null ? null : new(logFile)));
            }
            catch (Exception e)
            {
                started.SetException(
                    new IOException($"Can't start {name} with '{string.Join(' ', command)}': {e.Message}", e)
                );
            }
        });
        return started.Task;
    }

    /// <summary>The last lines of its output, for error messages.</summary>
    public string Tail()
    {
        lock (tail)
            return string.Join('\n', tail);
    }

    /// <summary>Waits for its end and the last of its output.</summary>
    /// <returns>How it ended, in words.</returns>
    public async Task<string> EndedAsync()
    {
        await exited.Task;
        await Task.WhenAny(process.WaitForExitAsync(), Task.Delay(TimeSpan.FromSeconds(1))); // a stranger may hold its output open
        return process.ExitCode switch
        {
            137 => "was killed (SIGKILL: by hand, or for want of memory)",
            134 => "aborted (SIGABRT: a native library's fatal error)",
            139 => "crashed (SIGSEGV)",
            int code => $"ended with exit code {code}",
        };
    }

    /// <summary>Writes a line to its standard input: the way it is told things.</summary>
    public void Tell(string line)
    {
        try
        {
            process.StandardInput.WriteLine(line);
            process.StandardInput.Flush();
        }
        catch (Exception e) when (e is IOException or InvalidOperationException) { } // it has ended, which is noticed elsewhere
    }

    public void Kill()
    {
        try
        {
            process.Kill();
        }
        catch (InvalidOperationException) { } // it has ended
    }

    private void Write(string name, string? line)
    {
        if (line is null)
            return;
        lock (tail)
        {
            tail.Enqueue(line);
            if (tail.Count > TailLines)
                tail.Dequeue();
        }
        if (log is null)
            Console.Error.WriteLine($"[{name}] {line}");
        else
            log.WriteLine(line);
    }

    /// <summary>Asks it to end by closing its input, and kills it when it doesn't within some seconds.</summary>
    public async Task EndAsync()
    {
        if (exited.Task.IsCompleted)
            return;
        try
        {
            process.StandardInput.Close();
        }
        catch (Exception e) when (e is IOException or InvalidOperationException) { } // it has ended meanwhile
        if (await Task.WhenAny(exited.Task, Task.Delay(TimeSpan.FromSeconds(3))) != exited.Task)
            Kill();
        await exited.Task;
    }

    public async ValueTask DisposeAsync()
    {
        await EndAsync();
        await EndedAsync();
        process.Dispose();
    }
}

/// <summary>
/// Appends lines to a file and never fails its writer: a full disk costs lines of the log, and is told where results are written.
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
