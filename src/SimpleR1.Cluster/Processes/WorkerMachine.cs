using SimpleR1.Cluster.Membership;

namespace SimpleR1.Cluster.Processes;

/// <summary>The workers of a machine.</summary>
public sealed record WorkerMachineOptions
{
    public required HeadAddress Head { get; init; }

    /// <summary>One process for each.</summary>
    public required IReadOnlyList<string> Devices { get; init; }

    /// <summary>What the workers are called: this, and the device where there are several.</summary>
    public required string Name { get; init; }

    /// <summary>Element type of weights on a GPU: bf16, f16 or f32.</summary>
    public string Type { get; init; } = "bf16";

    /// <summary>Of each one's tensor code; 0 shares the machine's cores evenly.</summary>
    public int Threads { get; init; }

    /// <summary>0 is any free one.</summary>
    public int SiloPort { get; init; }
    public TimeSpan DrainTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Program and first arguments of a worker process.</summary>
    public IReadOnlyList<string> Command { get; init; } = WorkerProcesses.ThisProgram();
    public required Action<string> Say { get; init; }
}

/// <summary>Keeps a machine's worker processes in a cluster until they are asked to leave. <c>simple-r1 worker</c> is this.</summary>
public sealed class WorkerMachine : IAsyncDisposable
{
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(15); // beyond the drain timeout, to leave the membership and end

    private readonly WorkerMachineOptions options;
    private readonly WorkerProcesses processes;

    private WorkerMachine(WorkerMachineOptions options, WorkerProcesses processes) =>
        (this.options, this.processes) = (options, processes);

    public static WorkerMachine Start(WorkerMachineOptions options)
    {
        _ = options.Head.Parse();
        return new(
            options,
            new(
                new()
                {
                    Command = options.Command,
                    Processes =
                    [
                        .. options.Devices.Select(device =>
                            (options.Devices.Count == 1 ? options.Name : $"{options.Name}/{device}", device)
                        ),
                    ],
                    Head = options.Head,
                    Type = options.Type,
                    Threads =
                        options.Threads > 0
                            ? options.Threads
                            : Math.Max(1, Environment.ProcessorCount / options.Devices.Count),
                    SiloPort = options.Devices.Count == 1 ? options.SiloPort : 0,
                    DrainTimeout = options.DrainTimeout,
                    Say = options.Say,
                },
                null
            )
        );
    }

    /// <summary>Runs until all have left; when <paramref name="drain"/> says so, they finish what they have first.</summary>
    /// <returns>False when some did not leave in time.</returns>
    public async Task<bool> RunAsync(CancellationToken drain)
    {
        try
        {
            await processes.Ended.WaitAsync(drain);
            return true;
        }
        catch (OperationCanceledException) { }
        processes.Drain();
        try
        {
            await processes.Ended.WaitAsync(options.DrainTimeout + Grace, CancellationToken.None);
        }
        catch (TimeoutException)
        {
            options.Say(
                $"Waited {(options.DrainTimeout + Grace).TotalSeconds:0} s for the workers to leave; they are killed, and other workers do their work again"
            );
            return false;
        }
        return true;
    }

    public ValueTask DisposeAsync() => processes.DisposeAsync();
}
