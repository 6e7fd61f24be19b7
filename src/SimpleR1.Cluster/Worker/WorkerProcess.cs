using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Extensions.DependencyInjection;
using SimpleR1.Cluster.Membership;
using SimpleR1.Tensors;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Cluster.Worker;

/// <summary>What a worker process is started with; everything else it gets from head and trainer when it has joined. The key is in its environment.</summary>
public sealed record WorkerOptions
{
    /// <summary>HOST:PORT of the head.</summary>
    public required string Join { get; init; }

    /// <summary>What it is called, in one cluster by one process at a time.</summary>
    public required string Name { get; init; }

    /// <summary>Tells this process from others of its name, before and after it.</summary>
    public required string Instance { get; init; }
    public string Device { get; init; } = "cpu";

    /// <summary>Element type of its weights on a GPU: bf16, f16 or f32.</summary>
    public string Type { get; init; } = "bf16";

    /// <summary>Of its tensor code.</summary>
    public int Threads { get; init; } = 1;

    /// <summary>0 is any free one.</summary>
    public int SiloPort { get; init; }

    /// <summary>How long it may finish what it has when it is asked to leave.</summary>
    public TimeSpan DrainTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>The process to end with; 0 for none.</summary>
    public int Parent { get; init; }

    internal string[] ToArguments() =>
        [
            "--join",
            Join,
            "--name",
            Name,
            "--instance",
            Instance,
            "--device",
            Device,
            "--type",
            Type,
            "--threads",
            Text(Threads),
            "--silo-port",
            Text(SiloPort),
            "--drain-timeout",
            Text((int)DrainTimeout.TotalSeconds),
            "--parent",
            Text(Parent),
        ];

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    /// <summary>Reads what worker processes are started with (without the leading <c>worker</c>).</summary>
    /// <exception cref="ArgumentException">An option is missing, unknown or malformed.</exception>
    public static WorkerOptions Parse(IReadOnlyList<string> arguments)
    {
        if (arguments.Count % 2 != 0)
            throw new ArgumentException("Expected pairs of --option and value");
        var values = new Dictionary<string, string>();
        for (int i = 0; i < arguments.Count; i += 2)
            values[arguments[i]] = arguments[i + 1];
        string Take(string option) =>
            values.Remove(option, out string? value)
                ? value
                : throw new ArgumentException(
                    $"A worker process needs {option}; it is started by train or simple-r1 worker"
                );
        int Number(string option) =>
            Take(option) is var text && int.TryParse(text, CultureInfo.InvariantCulture, out int number)
                ? number
                : throw new ArgumentException($"{option}: expected a number, found '{text}'");
        var options = new WorkerOptions
        {
            Join = Take("--join"),
            Name = Take("--name"),
            Instance = Take("--instance"),
            Device = Take("--device"),
            Type = Take("--type"),
            Threads = Number("--threads"),
            SiloPort = Number("--silo-port"),
            DrainTimeout = TimeSpan.FromSeconds(Number("--drain-timeout")),
            Parent = Number("--parent"),
        };
        _ = new HeadAddress(options.Join, null).Parse();
        return values.Count == 0 ? options : throw new ArgumentException($"Unknown option {values.Keys.First()}");
    }
}

/// <summary>The whole of a worker process: a silo that joins the head and does what it is told, until its parent is gone or it is asked to leave.</summary>
public static partial class WorkerProcess
{
    /// <summary>The environment variable with the cluster key.</summary>
    public const string KeyVariable = "SIMPLE_R1_KEY";
    internal const string DrainLine = "drain";
    private static readonly TimeSpan LeaveTimeout = TimeSpan.FromSeconds(5),
        IdleCheck = TimeSpan.FromMilliseconds(100);

    /// <summary>Runs until cancelled or asked to leave, or until the parent ends. Call it first thing in the process.</summary>
    /// <returns>The process's exit code; 0 when it left in order.</returns>
    public static Task<int> RunAsync(WorkerOptions options, CancellationToken cancellation) =>
        RunAsync(options, _ => { }, cancellation);

    /// <param name="change">For tests: what makes this worker differ from a right one.</param>
    internal static async Task<int> RunAsync(
        WorkerOptions options,
        Action<WorkerRuntime> change,
        CancellationToken cancellation
    )
    {
        var leave = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        if (options.Parent != 0)
            EndWithParent(options.Parent, told: () => leave.TrySetResult());
        // Ctrl-C in a terminal reaches the whole process group; what happens then is the parent's decision.
        using var ignored = PosixSignalRegistration.Create(PosixSignal.SIGINT, signal => signal.Cancel = true);
        using var terminated = PosixSignalRegistration.Create(
            PosixSignal.SIGTERM,
            signal =>
            {
                signal.Cancel = true;
                leave.TrySetResult();
            }
        );
        var key = Environment.GetEnvironmentVariable(KeyVariable) is { Length: > 0 } text
            ? ClusterKey.Parse(text)
            : null;
        await using var runtime = new WorkerRuntime(options.Device, options.Threads, key, options.Type);
        change(runtime);
        await using var member = new ClusterSession(
            new()
            {
                Head = new(options.Join, key),
                Hello = new(
                    HelloMessage.CurrentProtocol,
                    MemberRole.Worker,
                    options.Name,
                    options.Instance,
                    Environment.MachineName,
                    Environment.ProcessId,
                    options.Device
                ),
                SiloPort = options.SiloPort,
                Log = Console.Error,
                Say = Console.Error.WriteLine,
                Services = services => services.AddSingleton(runtime),
                Report = () => new(HeadAsk.Report, Report: runtime.Report()),
                Drain = () => leave.TrySetResult(),
                DeclaredDead = reason =>
                {
                    Console.Error.WriteLine(
                        $"This worker was declared dead by the cluster and ends: {reason.Split(" Membership:")[0]}"
                    );
                    EndNow(1);
                },
            }
        );
        var joined = member.StartAsync();
        _ = CpuParallel.Threads; // loads libtorch while others join
        using var stopped = cancellation.Register(() => leave.TrySetResult());
        if (await Task.WhenAny(joined, leave.Task) == joined)
            await joined; // refused by the head, for one
        await leave.Task;
        await DrainAsync(runtime, options.DrainTimeout);
        await member.LeaveAsync(LeaveTimeout);
        return 0;
    }

    /// <summary>Finishes what it has; what is not finished in time goes to other workers when this one has left.</summary>
    private static async Task DrainAsync(WorkerRuntime runtime, TimeSpan timeout)
    {
        runtime.Draining = true;
        using var deadline = new CancellationTokenSource(timeout);
        try
        {
            while (!runtime.Idle)
                await Task.Delay(IdleCheck, deadline.Token);
        }
        catch (OperationCanceledException)
        {
            Console.Error.WriteLine(
                $"Left after {timeout.TotalSeconds:0} s with work unfinished; other workers do it again"
            );
        }
    }

    /// <summary>Reports the reason and ends this process at once.</summary>
    internal static void End(string reason)
    {
        Console.Error.WriteLine($"This worker ends: {reason}");
        EndNow(1);
    }

    /// <summary>Ends this process at once, running nothing more: threads of native code may be in the middle of anything.</summary>
    internal static void EndNow(int code) => _exit(code);

    /// <summary>By two ways, because each has a gap: the kernel's signal is set only here, a pipe's end can be held open by a stranger.</summary>
    private static void EndWithParent(int parent, Action told)
    {
        const int setParentDeathSignal = 1,
            kill = 9;
        if (prctl(setParentDeathSignal, kill, 0, 0, 0) != 0)
            throw new InvalidOperationException("prctl(PR_SET_PDEATHSIG) failed");
        if (getppid() != parent)
            EndNow(1); // gone before the line above
        new Thread(() =>
        {
            using var input = new StreamReader(Console.OpenStandardInput());
            while (input.ReadLine() is { } line)
                if (line == DrainLine)
                    told();
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
