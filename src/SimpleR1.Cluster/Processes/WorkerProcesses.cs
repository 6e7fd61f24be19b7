using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using SimpleR1.Cluster.Worker;

namespace SimpleR1.Cluster.Processes;

/// <summary>Worker processes to keep running on this machine.</summary>
internal sealed record WorkerProcessesOptions
{
    /// <summary>Program and first arguments.</summary>
    public required IReadOnlyList<string> Command { get; init; }

    /// <summary>The name and device of each process.</summary>
    public required IReadOnlyList<(string Name, string Device)> Processes { get; init; }
    public required HeadAddress Head { get; init; }

    /// <summary>What the processes have in common; each has a device for itself.</summary>
    public required WorkerSettings Worker { get; init; }
    public string? LogFolder { get; init; }

    /// <summary>A process that fails to start this often in a row isn't started again; 0 has no limit.</summary>
    public int StartAttempts { get; init; }

    /// <summary>Starts a process again without a pause when it had come up, or failed to start once.</summary>
    public bool RestartsAtOnce { get; init; }
}

/// <summary>
/// Keeps worker processes running. Each is a child that ends with this process, and one that ends by itself is started again
/// under the same name. <c>train</c> starts its own workers this way, and <c>simple-r1 worker</c> those of a machine.
/// </summary>
internal sealed class WorkerProcesses : IAsyncDisposable
{
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(10);

    private readonly WorkerProcessesOptions options;
    private readonly IProcessOwner owner;
    private readonly WorkerSettings settings;
    private readonly CancellationTokenSource stopping = new();
    private readonly Lock gate = new();
    private readonly Dictionary<string, ChildProcess> running = []; // by instance
    private volatile bool draining;

    public WorkerProcesses(WorkerProcessesOptions options, IProcessOwner owner)
    {
        this.options = options;
        this.owner = owner;
        int count = options.Processes.Count;
        settings = options.Worker with
        {
            Threads =
                options.Worker.Threads > 0 ? options.Worker.Threads : Math.Max(1, Environment.ProcessorCount / count),
            SiloPort = count == 1 ? options.Worker.SiloPort : 0,
        };
    }

    /// <summary>Completes when all processes have left for good.</summary>
    public Task Ended { get; private set; } = Task.CompletedTask;

    /// <summary>Starts all processes, in the background. Call it once.</summary>
    public void Start() => Ended = Task.WhenAll(options.Processes.Select(p => KeepAsync(p.Name, p.Device)).ToArray());

    /// <summary>How this program was started: by its own executable, or as <c>dotnet program.dll</c>.</summary>
    public static IReadOnlyList<string> ThisProgram()
    {
        string executable =
            Environment.ProcessPath
            ?? throw new InvalidOperationException(
                "This process's executable is unknown; set ClusterOptions.WorkerCommand"
            );
        string library = Assembly.GetEntryAssembly()?.Location ?? "";
        return Path.GetFileNameWithoutExtension(executable) == "dotnet" && library.Length > 0
            ? [executable, library, "worker"]
            : [executable, "worker"];
    }

    /// <summary>Asks all processes to finish their work and leave.</summary>
    public void Drain()
    {
        draining = true;
        lock (gate)
            foreach (var child in running.Values)
                child.Send(WorkerProcess.DrainLine);
    }

    /// <summary>Kills a process; the next one of its name is started.</summary>
    public void Kill(string instance)
    {
        lock (gate)
            if (running.TryGetValue(instance, out var child))
                child.Kill();
    }

    private async Task KeepAsync(string name, string device)
    {
        await Task.Yield();
        int failures = 0;
        bool wasUp = false; // a name that was its own once is only taken until the head has noticed the process's end
        while (!stopping.IsCancellationRequested && !draining)
        {
            var (end, exitCode) = await RunAsync(name, device);
            wasUp |= end.WasUp;
            if (stopping.IsCancellationRequested)
                return;
            if (exitCode == 0)
            {
                owner.OnLeft(name);
                return;
            }
            if (exitCode == WorkerProcess.RefusedExitCode && !wasUp)
            {
                owner.OnRefused(name, "the head refused it");
                Drain();
                return;
            }

            failures = end.WasUp ? 0 : failures + 1;
            owner.OnFailed(name, end.Reason, failures);
            if (failures == options.StartAttempts && failures > 0)
            {
                owner.OnGivenUp(name, end.Reason, failures);
                return;
            }

            if (!options.RestartsAtOnce || failures > 1)
                await PauseAsync(failures);
        }
    }

    /// <summary>Runs one process from its start to its end.</summary>
    /// <returns>How it ended, and its exit code: 0 when it left in order; null when it could not be started.</returns>
    private async Task<(ProcessEnd End, int? ExitCode)> RunAsync(string name, string device)
    {
        string instance = Guid.NewGuid().ToString("N")[..12];
        owner.OnStarting(name, instance);
        long startedAt = Stopwatch.GetTimestamp();
        ChildProcess child;
        try
        {
            child = await StartAsync(name, device, instance);
        }
        catch (IOException e)
        {
            await owner.OnEndedAsync(instance, e.Message, TimeSpan.Zero);
            return (new(e.Message, WasUp: false), null);
        }

        // Until it ends.
        string ending = $"its process {child.Id} {await child.WaitForEndAsync()}";
        if (child.Tail() is { Length: > 0 } tail)
            ending += "; its last output:\n" + tail;
        int exitCode = child.ExitCode;
        lock (gate)
            running.Remove(instance);
        await child.DisposeAsync();

        // The owner may know better why.
        var end = await owner.OnEndedAsync(instance, ending, Stopwatch.GetElapsedTime(startedAt));
        if (!end.WasUp && !end.Reason.Contains(ending, StringComparison.Ordinal))
            end = end with { Reason = end.Reason + "; " + ending };

        return (end, exitCode);
    }

    private async Task PauseAsync(int failures)
    {
        double seconds = Math.Min(LongestPause.TotalSeconds, 0.25 * Math.Pow(2, failures));
        try
        {
            await Task.Delay(TimeSpan.FromSeconds(seconds), stopping.Token);
        }
        catch (OperationCanceledException) { }
    }

    private async Task<ChildProcess> StartAsync(string name, string device, string instance)
    {
        var worker = new WorkerOptions
        {
            Join = options.Head.Join,
            Name = name,
            Instance = instance,
            Worker = settings with { Device = device },
            Parent = Environment.ProcessId,
        };
        var child = await ChildProcess.StartAsync(
            [.. options.Command, .. worker.ToArguments()],
            name,
            LogFileOf(name),
            ChildEnvironment()
        );
        lock (gate)
            running.Add(instance, child);
        owner.OnStarted(instance, child.Id);

        // The process may have become unwanted while it started.
        if (stopping.IsCancellationRequested)
            child.Kill();
        if (draining)
            child.Send(WorkerProcess.DrainLine);

        return child;
    }

    private string? LogFileOf(string name)
    {
        if (options.LogFolder is null)
            return null;

        string folder = Directory.CreateDirectory(options.LogFolder).FullName;
        return Path.Combine(folder, $"{name.Replace(' ', '-').Replace('/', '-')}.log");
    }

    /// <summary>The variables that must be set before a process starts. The key is one of them: others can read a command line.</summary>
    private Dictionary<string, string> ChildEnvironment() =>
        new()
        {
            [WorkerProcess.KeyVariable] = options.Head.Key?.Text ?? "",
            ["OMP_NUM_THREADS"] = settings.Threads.ToString(CultureInfo.InvariantCulture),
            ["NCCL_NVLS_ENABLE"] = "0", // NVLink multicast stays off
            ["DOTNET_gcServer"] = "0",
            // glibc would give large tensors back to the system at every free, and fault them in again at the next allocation
            ["MALLOC_MMAP_THRESHOLD_"] = "1073741824",
            ["MALLOC_TRIM_THRESHOLD_"] = "1073741824",
            ["MALLOC_TOP_PAD_"] = "67108864",
        };

    /// <summary>Ends all processes, and waits until they are gone.</summary>
    public async ValueTask DisposeAsync()
    {
        if (stopping.IsCancellationRequested)
            return;

        stopping.Cancel();
        ChildProcess[] children;
        lock (gate)
            children = [.. running.Values];
        await Task.WhenAll(children.Select(child => child.EndAsync()));
        await Ended;
    }
}
