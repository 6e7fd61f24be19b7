using System.Globalization;
using System.Net;
using System.Runtime.InteropServices;
using Microsoft.Extensions.DependencyInjection;
using SimpleR1.Tensors;

namespace SimpleR1.Cluster;

/// <summary>What a worker process is started with; everything else it gets from the head when it has joined.</summary>
public sealed record WorkerOptions
{
    /// <summary>The head's silo.</summary>
    public required IPEndPoint Join { get; init; }
    public required string ClusterId { get; init; }
    /// <summary>By which the head knows its workers apart.</summary>
    public required string Name { get; init; }
    /// <summary>The process to end with; 0 for none.</summary>
    public int Parent { get; init; }

    internal string[] ToArguments() =>
        ["--join", Join.ToString(), "--cluster", ClusterId, "--name", Name, "--parent", Parent.ToString(CultureInfo.InvariantCulture)];

    /// <summary>Reads what the head starts its workers with (without the leading <c>worker</c>).</summary>
    /// <exception cref="ArgumentException">An option is missing, unknown or malformed.</exception>
    public static WorkerOptions Parse(IReadOnlyList<string> arguments)
    {
        if (arguments.Count % 2 != 0) throw new ArgumentException("Expected pairs of --option and value");
        var values = new Dictionary<string, string>();
        for (int i = 0; i < arguments.Count; i += 2) values[arguments[i]] = arguments[i + 1];
        string Take(string option) => values.Remove(option, out string? value) ? value : throw new ArgumentException($"A worker needs {option}; it is started by the trainer");
        string join = Take("--join"), parent = Take("--parent");
        var options = new WorkerOptions
        {
            Join = IPEndPoint.TryParse(join, out var endpoint) ? endpoint : throw new ArgumentException($"--join: expected ADDRESS:PORT, found '{join}'"),
            ClusterId = Take("--cluster"),
            Name = Take("--name"),
            Parent = int.TryParse(parent, CultureInfo.InvariantCulture, out int id) ? id : throw new ArgumentException($"--parent: expected a process id, found '{parent}'"),
        };
        return values.Count == 0 ? options : throw new ArgumentException($"Unknown option {values.Keys.First()}");
    }
}

/// <summary>The whole of a worker process: a silo that joins the head and does what it is told until its parent is gone.</summary>
public static partial class WorkerProcess
{
    /// <summary>Runs until cancelled or until the parent ends. Call it first thing in the process.</summary>
    /// <returns>The process's exit code.</returns>
    public static async Task<int> RunAsync(WorkerOptions options, CancellationToken cancellation)
    {
        var told = options.Parent != 0 ? EndWithParent(options.Parent) : Task.CompletedTask;
        // Ctrl-C in a terminal reaches the whole process group; what happens then is the trainer's decision.
        using var ignored = PosixSignalRegistration.Create(PosixSignal.SIGINT, signal => signal.Cancel = true);
        await using var runtime = new WorkerRuntime();
        _ = CpuParallel.Threads; // loads libtorch while others join
        await told.WaitAsync(cancellation);
        for (int attempt = 1; ; attempt++)
        {
            using var host = Silo.Build(options.ClusterId, options.Name, Silo.FreePort(), options.Join, Console.Error,
                services => services.AddSingleton(runtime));
            try { await host.StartAsync(cancellation); }
            catch (Exception e) when (Silo.IsPortTaken(e) && attempt < 5) { continue; } // someone was quicker
            try { await Task.Delay(Timeout.Infinite, cancellation); }
            catch (OperationCanceledException) { }
            await host.StopAsync(CancellationToken.None);
            return 0;
        }
    }

    /// <summary>Ends this process at once, running nothing more: threads of native code may be in the middle of anything.</summary>
    internal static void EndNow(int code) => _exit(code);

    /// <summary>By two ways, because each has a gap: the kernel's signal is set only here, a pipe's end can be held open by a stranger.</summary>
    /// <returns>Completes when the parent says that it is this worker's turn to join.</returns>
    private static Task EndWithParent(int parent)
    {
        const int setParentDeathSignal = 1, kill = 9;
        if (prctl(setParentDeathSignal, kill, 0, 0, 0) != 0) throw new InvalidOperationException("prctl(PR_SET_PDEATHSIG) failed");
        if (getppid() != parent) EndNow(1); // gone before the line above
        var told = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        new Thread(() =>
        {
            using var input = Console.OpenStandardInput();
            var buffer = new byte[256];
            while (input.Read(buffer) > 0) told.TrySetResult();
            EndNow(0);
        })
        { IsBackground = true, Name = "parent watch" }.Start();
        return told.Task;
    }

    [LibraryImport("libc")] private static partial int prctl(int option, nuint value, nuint unused3, nuint unused4, nuint unused5);
    [LibraryImport("libc")] private static partial int getppid();
    [LibraryImport("libc")] private static partial void _exit(int code);
}
