using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Worker;

namespace SimpleR1.Cluster.Processes;

/// <summary>Worker processes to keep running on this machine.</summary>
internal sealed record WorkerProcessesOptions
{
    /// <summary>Program and first arguments.</summary>
    public required IReadOnlyList<string> Command { get; init; }

    /// <summary>One process for each: its name and its device.</summary>
    public required IReadOnlyList<(string Name, string Device)> Processes { get; init; }
    public required HeadAddress Head { get; init; }

    /// <summary>Element type of weights on a GPU.</summary>
    public string Type { get; init; } = "bf16";

    /// <summary>Threads of each one's tensor code.</summary>
    public required int Threads { get; init; }

    /// <summary>Port of the silo of a single process; 0 is any free one.</summary>
    public int SiloPort { get; init; }
    public TimeSpan DrainTimeout { get; init; } = TimeSpan.FromSeconds(30);
    public string? LogFolder { get; init; }

    /// <summary>One that ends this often in a row before it has come up isn't started again; 0 has no limit.</summary>
    public int StartAttempts { get; init; }
    public required Action<string> Say { get; init; }
}

/// <summary>
/// Keeps worker processes running: each is a child that ends with this process, and one that ends by itself is started again under the same name.
/// <c>train</c> starts its own workers this way, and <c>simple-r1 worker</c> those of a machine.
/// </summary>
internal sealed class WorkerProcesses : IAsyncDisposable
{
    private static readonly TimeSpan UpAfter = TimeSpan.FromSeconds(10),
        LongestPause = TimeSpan.FromSeconds(10);

    private readonly WorkerProcessesOptions options;
    private readonly WorkerPool? pool;
    private readonly CancellationTokenSource stopping = new();
    private readonly Lock gate = new();
    private readonly Dictionary<string, ChildProcess> running = []; // by instance
    private volatile bool draining;

    /// <param name="pool">Is told about each process where it is of this process; null where the workers are another's.</param>
    public WorkerProcesses(WorkerProcessesOptions options, WorkerPool? pool)
    {
        (this.options, this.pool) = (options, pool);
        if (pool is not null)
            pool.ProcessUnwanted = Kill;
        Ended = Task.WhenAll(options.Processes.Select(p => KeepAsync(p.Name, p.Device)).ToArray());
    }

    /// <summary>Completes when all have left for good.</summary>
    public Task Ended { get; }

    /// <summary>How this program was started: by its own executable, or as <c>dotnet program.dll</c>.</summary>
    public static IReadOnlyList<string> ThisProgram()
    {
        string executable =
            Environment.ProcessPath
            ?? throw new InvalidOperationException(
                "This process's executable is unknown; set ClusterOptions.WorkerCommand"
            );
        return
            Path.GetFileNameWithoutExtension(executable) == "dotnet"
            && Assembly.GetEntryAssembly()?.Location is { Length: > 0 } program
            ? [executable, program, "worker"]
            : [executable, "worker"];
    }

    /// <summary>Asks all to finish what they have and leave.</summary>
    public void Drain()
    {
        draining = true;
        lock (gate)
            foreach (var child in running.Values)
                child.Tell(WorkerProcess.DrainLine);
    }

    private void Kill(string instance)
    {
        lock (gate)
            if (running.TryGetValue(instance, out var child))
                child.Kill();
    }

    private async Task KeepAsync(string name, string device)
    {
        await Task.Yield();
        for (int failures = 0; !stopping.IsCancellationRequested && !draining; )
        {
            string instance = Guid.NewGuid().ToString("N")[..12],
                reason;
            bool wasUp = false,
                left = false;
            pool?.Expect(name, instance);
            long startedAt = Stopwatch.GetTimestamp();
            try
            {
                var child = await StartAsync(name, device, instance);
                string ending =
                    $"its process {child.Id} {await child.EndedAsync()}{(child.Tail() is { Length: > 0 } tail ? "; its last output:\n" + tail : "")}";
                left = child.ExitCode == 0 && !stopping.IsCancellationRequested;
                lock (gate)
                    running.Remove(instance);
                await child.DisposeAsync();
                (reason, wasUp) = pool is null
                    ? (ending, Stopwatch.GetElapsedTime(startedAt) > UpAfter)
                    : await pool.EndedAsync(instance, ending);
                if (!reason.Contains(ending, StringComparison.Ordinal) && !wasUp)
                    reason += "; " + ending;
            }
            catch (IOException e) // it can't even be started
            {
                reason = e.Message;
                if (pool is not null)
                    await pool.EndedAsync(instance, reason);
            }
            if (stopping.IsCancellationRequested)
                return;
            if (left)
            {
                pool?.GiveUp(name, "it was asked to leave");
                if (pool is null)
                    options.Say($"{name} has finished and left");
                return;
            }
            failures = wasUp ? 0 : failures + 1;
            if (pool is null)
                options.Say($"{name}: {reason}");
            if (failures == options.StartAttempts && failures > 0)
            {
                options.Say($"{name} failed to start {failures} times in a row and is given up: {reason}");
                pool?.GiveUp(name, reason);
                return;
            }
            if (pool is null || failures > 1)
                await PauseAsync(failures);
        }
    }

    private async Task PauseAsync(int failures)
    {
        try
        {
            await Task.Delay(
                TimeSpan.FromSeconds(Math.Min(LongestPause.TotalSeconds, 0.25 * Math.Pow(2, failures))),
                stopping.Token
            );
        }
        catch (OperationCanceledException) { }
    }

    private async Task<ChildProcess> StartAsync(string name, string device, string instance)
    {
        var arguments = new WorkerOptions
        {
            Join = options.Head.Join,
            Name = name,
            Instance = instance,
            Device = device,
            Type = options.Type,
            Threads = options.Threads,
            SiloPort = options.SiloPort,
            DrainTimeout = options.DrainTimeout,
            Parent = Environment.ProcessId,
        }.ToArguments();
        string? logFile = options.LogFolder is null
            ? null
            : Path.Combine(
                Directory.CreateDirectory(options.LogFolder).FullName,
                $"{name.Replace(' ', '-').Replace('/', '-')}.log"
            );
        var child = await ChildProcess.StartAsync(
            [.. options.Command, .. arguments],
            name,
            logFile,
            ChildEnvironment()
        );
        lock (gate)
            running.Add(instance, child);
        pool?.Started(instance, child.Id);
        if (stopping.IsCancellationRequested)
            child.Kill();
        if (draining)
            child.Tell(WorkerProcess.DrainLine);
        return child;
    }

    /// <summary>What must be in a process's environment before it starts. The key is there too: others can read a command line.</summary>
    private Dictionary<string, string> ChildEnvironment() =>
        new()
        {
            [WorkerProcess.KeyVariable] = options.Head.Key?.Text ?? "",
            ["OMP_NUM_THREADS"] = options.Threads.ToString(CultureInfo.InvariantCulture),
            ["NCCL_NVLS_ENABLE"] = "0", // NVLink multicast stays off
            ["DOTNET_gcServer"] = "0",
            // glibc would give large tensors back to the system at every free, and fault them in again at the next allocation
            ["MALLOC_MMAP_THRESHOLD_"] = "1073741824",
            ["MALLOC_TRIM_THRESHOLD_"] = "1073741824",
            ["MALLOC_TOP_PAD_"] = "67108864",
        };

    /// <summary>Ends all, and waits until they are gone.</summary>
    public async ValueTask DisposeAsync()
    {
        if (stopping.IsCancellationRequested)
            return;
        stopping.Cancel();
        ChildProcess[] left;
        lock (gate)
            left = [.. running.Values];
        await Task.WhenAll(left.Select(child => child.EndAsync()));
        await Ended;
    }
}
