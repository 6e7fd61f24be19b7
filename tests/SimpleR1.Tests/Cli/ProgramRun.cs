using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using SimpleR1.Benchmarks;

namespace SimpleR1.Tests.Cli;

/// <summary>
/// The built program in its own process, as a person starts it, with the repository's root as working directory.
/// </summary>
internal sealed partial class ProgramRun : IDisposable
{
    public const int HangUp = 1;
    public const int Interrupt = 2;
    public const int Kill = 9;
    public const int Terminate = 15;

    /// <summary>
    /// Undoes what this process may have inherited: a shell ignores SIGINT for what it starts with <c>&amp;</c>, and
    /// nohup SIGHUP; children inherit that.
    /// </summary>
    private static readonly string[] DefaultSignals = ["env", "--default-signal=HUP,INT,TERM"];

    /// <summary>Long, because the machine may be busy with other things.</summary>
    private static readonly TimeSpan Timeout = TimeSpan.FromSeconds(180);

    /// <summary>Program and first arguments.</summary>
    public static string[] Program { get; } = ThisProgram.Built("simple-r1");

    private readonly Process process;
    private readonly string command;
    private readonly StringBuilder output = new();
    private readonly StringBuilder errors = new();

    private ProgramRun(string[] launcher, string[] arguments)
    {
        command = "simple-r1 " + string.Join(' ', arguments);
        string[] whole = [.. launcher, .. Program, .. arguments];
        process = new Process
        {
            StartInfo = new(whole[0], whole[1..])
            {
                WorkingDirectory = SharedData.RepositoryRoot,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            },
        };
        process.OutputDataReceived += (_, line) => Take(output, line.Data);
        process.ErrorDataReceived += (_, line) => Take(errors, line.Data);
        process.Start();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
    }

    public string Output
    {
        get
        {
            lock (output)
                return output.ToString();
        }
    }
    public string Errors
    {
        get
        {
            lock (errors)
                return errors.ToString();
        }
    }
    public bool HasEnded => process.HasExited;

    public static ProgramRun Start(params string[] arguments) => new(DefaultSignals, arguments);

    /// <summary>Starts another program, which becomes this one.</summary>
    public static ProgramRun StartBy(string[] launcher, params string[] arguments) => new(launcher, arguments);

    /// <summary>Runs to the end.</summary>
    public static async Task<(int Code, string Output, string Errors)> RunAsync(params string[] arguments)
    {
        using var run = new ProgramRun(DefaultSignals, arguments);
        return (await run.EndAsync(), run.Output, run.Errors);
    }

    /// <summary>Waits until standard output holds the text.</summary>
    public async Task SaysAsync(string text)
    {
        for (var clock = Stopwatch.StartNew(); !Output.Contains(text, StringComparison.Ordinal); await Task.Delay(5))
        {
            if (process.HasExited && !Output.Contains(text, StringComparison.Ordinal))
                throw new InvalidOperationException($"{command} ended before it said '{text}':\n{Output}\n{Errors}");
            if (clock.Elapsed > Timeout)
                throw new TimeoutException(
                    $"waited {Timeout.TotalSeconds} s for '{text}' from {command}:\n{Output}\n{Errors}"
                );
        }
    }

    public void Signal(int signal) => SendSignal(process.Id, signal);

    public static void SendSignal(int process, int signal)
    {
        if (SendSignalTo(process, signal) != 0)
            throw new InvalidOperationException($"kill({process}, {signal}): {Marshal.GetLastPInvokeErrorMessage()}");
    }

    /// <summary>Process ids of its workers.</summary>
    public int[] Workers()
    {
        string mark = $"--parent\0{process.Id}\0";
        return
        [
            .. Directory
                .EnumerateDirectories("/proc")
                .Select(Path.GetFileName)
                .Where(name => int.TryParse(name, out _))
                .Select(name => int.Parse(name!))
                .Where(id =>
                {
                    try
                    {
                        return File.ReadAllText($"/proc/{id}/cmdline").Contains(mark, StringComparison.Ordinal);
                    }
                    catch (IOException) // the process has just ended
                    {
                        return false;
                    }
                }),
        ];
    }

    /// <summary>Waits for the end and the last of the output.</summary>
    /// <returns>The exit code; 128 + the signal's number if a signal ended the process.</returns>
    public async Task<int> EndAsync()
    {
        using var deadline = new CancellationTokenSource(Timeout);
        try
        {
            await process.WaitForExitAsync(deadline.Token);
        }
        catch (OperationCanceledException)
        {
            throw new TimeoutException(
                $"waited {Timeout.TotalSeconds} s for the end of {command}:\n{Output}\n{Errors}"
            );
        }
        return process.ExitCode;
    }

    /// <summary>Waits until none of the program's workers is left.</summary>
    public async Task WorkersEndAsync()
    {
        for (var clock = Stopwatch.StartNew(); Workers() is { Length: > 0 } left; await Task.Delay(20))
            if (clock.Elapsed > TimeSpan.FromSeconds(15))
                throw new TimeoutException(
                    $"15 s after the end of {command} its workers {string.Join(", ", left)} are still there"
                );
    }

    public void Dispose()
    {
        if (!process.HasExited)
            process.Kill();
        process.Dispose();
    }

    private static void Take(StringBuilder all, string? line)
    {
        if (line is not null)
            lock (all)
                all.Append(line).Append('\n');
    }

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int SendSignalTo(int process, int signal);
}
