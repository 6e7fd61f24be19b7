using System.Runtime.InteropServices;
using Microsoft.Extensions.DependencyInjection;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Wire;
using SimpleR1.Tensors;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Cluster.Worker;

/// <summary>
/// The whole of a worker process: a silo that joins the head and answers the trainer's calls, until the parent process is gone
/// or the worker is asked to leave.
/// </summary>
public static partial class WorkerProcess
{
    /// <summary>The environment variable with the cluster key.</summary>
    public const string KeyVariable = "SIMPLE_R1_KEY";
    internal const string DrainLine = "drain";

    /// <summary>The exit code of a worker that the head refuses: another process would be refused too.</summary>
    internal const int RefusedExitCode = 78; // EX_CONFIG of sysexits.h
    private static readonly TimeSpan LeaveTimeout = TimeSpan.FromSeconds(5),
        IdleCheckInterval = TimeSpan.FromMilliseconds(100);

    /// <summary>
    /// Runs this process as a worker where it was started as one. Every program that starts workers from its own executable
    /// calls this first, before any tensor is allocated: <c>train</c>, and custom loops.
    /// </summary>
    /// <param name="arguments">The program's arguments.</param>
    /// <returns>The exit code of the worker; null where the program was started by hand.</returns>
    public static async Task<int?> RunIfAskedAsync(string[] arguments)
    {
        if (arguments is not ["worker", .. var options] || !options.Contains("--parent"))
            return null;

        return await RunAsync(WorkerOptions.Parse(options), CancellationToken.None);
    }

    /// <summary>Runs until cancelled or asked to leave, or until the parent ends. Call it first in the process.</summary>
    /// <returns>The process's exit code; 0 when the worker left in order.</returns>
    public static Task<int> RunAsync(WorkerOptions options, CancellationToken cancellation) =>
        RunAsync(options, _ => { }, cancellation);

    /// <param name="change">For tests: makes this worker differ from a correct one.</param>
    internal static async Task<int> RunAsync(
        WorkerOptions options,
        Action<WorkerRuntime> change,
        CancellationToken cancellation
    )
    {
        // Signals that ask this worker to leave.
        var leave = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        if (options.Parent != 0)
            EndWithParent(options.Parent, asked: () => leave.TrySetResult());
        // Ctrl-C in a terminal reaches the whole process group, and the parent decides what happens then.
        using var interrupted = PosixSignalRegistration.Create(PosixSignal.SIGINT, signal => signal.Cancel = true);
        using var terminated = PosixSignalRegistration.Create(
            PosixSignal.SIGTERM,
            signal =>
            {
                signal.Cancel = true;
                leave.TrySetResult();
            }
        );
        using var stopped = cancellation.Register(() => leave.TrySetResult());

        // The runtime outlives each silo of the session.
        string? keyText = Environment.GetEnvironmentVariable(KeyVariable);
        var key = string.IsNullOrEmpty(keyText) ? null : ClusterKey.Parse(keyText);
        await using var runtime = new WorkerRuntime(options.Worker, key);
        change(runtime);
        await using var session = new ClusterSession(SessionOptions(options, key, runtime, leave));
        var joined = session.StartAsync();
        _ = CpuParallel.Threads; // loads libtorch while others join

        if (await Task.WhenAny(joined, leave.Task) == joined)
            try
            {
                await joined;
            }
            catch (HeadRefusedException e)
            {
                Console.Error.WriteLine($"error: {e.Message}");
                return RefusedExitCode;
            }
        await leave.Task;

        // Work first, then the membership.
        await DrainAsync(runtime, options.Worker.DrainTimeout);
        await session.LeaveAsync(LeaveTimeout);

        return 0;
    }

    private static SessionOptions SessionOptions(
        WorkerOptions options,
        ClusterKey? key,
        WorkerRuntime runtime,
        TaskCompletionSource leave
    ) =>
        new()
        {
            Head = new(options.Join, key),
            Hello = HelloMessage.Create(MemberRole.Worker, options.Name, options.Instance, options.Worker.Device),
            SiloPort = options.Worker.SiloPort,
            SiloLog = Console.Error,
            Log = Console.Error.WriteLine,
            Services = services => services.AddSingleton(runtime),
            Report = () => new(HeadAsk.Report, Report: runtime.Report()),
            Drain = () => leave.TrySetResult(),
            DeclaredDead = reason =>
            {
                string cause = reason.Split(" Membership:")[0];
                Console.Error.WriteLine($"This worker was declared dead by the cluster and ends: {cause}");
                EndNow(1);
            },
        };

    /// <summary>Finishes the worker's work. Other workers do what is not finished in time, when this one has left.</summary>
    private static async Task DrainAsync(WorkerRuntime runtime, TimeSpan timeout)
    {
        runtime.Draining = true;
        using var deadline = new CancellationTokenSource(timeout);
        try
        {
            while (!runtime.Idle)
                await Task.Delay(IdleCheckInterval, deadline.Token);
        }
        catch (OperationCanceledException)
        {
            Console.Error.WriteLine(
                $"Left after {timeout.TotalSeconds:0} s with work unfinished; other workers do it again"
            );
        }
    }

    /// <summary>Logs the reason and ends this process at once.</summary>
    internal static void End(string reason)
    {
        Console.Error.WriteLine($"This worker ends: {reason}");
        EndNow(1);
    }

    /// <summary>Ends this process at once and runs nothing more: threads of native code may be in the middle of anything.</summary>
    internal static void EndNow(int code) => _exit(code);

    /// <summary>
    /// Ends this process with its parent, in two ways, because each has a gap. The kernel's signal is set only here, and
    /// another process can hold a pipe's end open.
    /// </summary>
    /// <param name="asked">Called when the parent asks this worker to leave.</param>
    private static void EndWithParent(int parent, Action asked)
    {
        const int setParentDeathSignal = 1,
            kill = 9;
        if (prctl(setParentDeathSignal, kill, 0, 0, 0) != 0)
            throw new InvalidOperationException("prctl(PR_SET_PDEATHSIG) failed");
        if (getppid() != parent)
            EndNow(1); // the parent was gone before the line above

        new Thread(() =>
        {
            using var input = new StreamReader(Console.OpenStandardInput());
            while (input.ReadLine() is { } line)
                if (line == DrainLine)
                    asked();
            EndNow(0);
        })
        {
            IsBackground = true,
            Name = "parent watch",
        }.Start();
    }

    [LibraryImport("libc")]
    private static partial int prctl(int option, nuint value, nuint unused3, nuint unused4, nuint unused5);

    [LibraryImport("libc")]
    private static partial int getppid();

    [LibraryImport("libc")]
    private static partial void _exit(int code);
}
