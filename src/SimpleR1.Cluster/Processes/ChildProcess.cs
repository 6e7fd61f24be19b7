using System.Collections.Concurrent;
using System.Diagnostics;

namespace SimpleR1.Cluster.Processes;

/// <summary>
/// A process that ends when this one does. The child reads a pipe from this process, whose end of file is the signal. It also
/// asks the kernel to be killed when the thread that started it ends; so one thread that never ends starts all children.
/// </summary>
internal sealed class ChildProcess : IAsyncDisposable
{
    private const int TailLines = 12;
    private static readonly TimeSpan OutputTimeout = TimeSpan.FromSeconds(1),
        EndTimeout = TimeSpan.FromSeconds(3);
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

    /// <summary>Known when the process has ended.</summary>
    public int ExitCode => process.ExitCode;

    /// <param name="command">Program and arguments.</param>
    /// <param name="name">Stands before each line of the process's output on standard error.</param>
    /// <param name="logFile">Takes the process's output (appended) in place of standard error.</param>
    /// <exception cref="IOException">The process or its log file can't be started.</exception>
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

    /// <summary>The last lines of the process's output, for error messages.</summary>
    public string Tail()
    {
        lock (tail)
            return string.Join('\n', tail);
    }

    /// <summary>Waits for the end of the process and of its output.</summary>
    /// <returns>How the process ended, in words.</returns>
    public async Task<string> WaitForEndAsync()
    {
        await exited.Task;
        // Another process may hold the output open.
        await Task.WhenAny(process.WaitForExitAsync(), Task.Delay(OutputTimeout));

        return process.ExitCode switch
        {
            137 => "was killed (SIGKILL: by hand, or for lack of memory)",
            134 => "aborted (SIGABRT: a native library's fatal error)",
            139 => "crashed (SIGSEGV)",
            int code => $"ended with exit code {code}",
        };
    }

    /// <summary>Writes a line to the process's standard input.</summary>
    public void Send(string line)
    {
        try
        {
            process.StandardInput.WriteLine(line);
            process.StandardInput.Flush();
        }
        catch (Exception e) when (e is IOException or InvalidOperationException)
        {
            // The process has ended, and WaitForEndAsync returns.
        }
    }

    public void Kill()
    {
        try
        {
            process.Kill();
        }
        catch (InvalidOperationException) { } // the process has ended
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

    /// <summary>Asks the process to end by closing its input, and kills it when it does not end within some seconds.</summary>
    public async Task EndAsync()
    {
        if (exited.Task.IsCompleted)
            return;

        try
        {
            process.StandardInput.Close();
        }
        catch (Exception e) when (e is IOException or InvalidOperationException) { } // the process has ended

        if (await Task.WhenAny(exited.Task, Task.Delay(EndTimeout)) != exited.Task)
            Kill();
        await exited.Task;
    }

    public async ValueTask DisposeAsync()
    {
        await EndAsync();
        await WaitForEndAsync();
        process.Dispose();
    }
}
