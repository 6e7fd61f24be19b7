using SimpleR1.Cluster.Worker;

namespace SimpleR1.Cluster.Processes;

/// <summary>The workers of a machine.</summary>
public sealed record WorkerMachineOptions
{
    public required HeadAddress Head { get; init; }

    /// <summary>The workers' name; where there are several, each adds its device.</summary>
    public required string Name { get; init; }

    /// <summary>How the workers compute: one process for each device.</summary>
    public WorkerSettings Worker { get; init; } = new();

    /// <summary>Program and first arguments of a worker process.</summary>
    public IReadOnlyList<string> Command { get; init; } = WorkerProcesses.ThisProgram();

    /// <summary>Takes one line about each thing a person should know.</summary>
    public required Action<string> Log { get; init; }
}

/// <summary>Keeps a machine's worker processes in a cluster until they are asked to leave. <c>simple-r1 worker</c> is this.</summary>
public sealed class WorkerMachine : IAsyncDisposable
{
    /// <summary>Time beyond the drain timeout to leave the membership and end.</summary>
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(15);

    private readonly WorkerMachineOptions options;
    private readonly WorkerProcesses processes;
    private readonly Owner owner;

    private WorkerMachine(WorkerMachineOptions options, WorkerProcesses processes, Owner owner)
    {
        this.options = options;
        this.processes = processes;
        this.owner = owner;
    }

    /// <exception cref="ArgumentException">The head's address is no HOST:PORT, or there is no such device.</exception>
    public static WorkerMachine Start(WorkerMachineOptions options)
    {
        _ = options.Head.Parse();
        var devices = WorkerDevices.Expand(options.Worker.Device);
        string NameOf(string device) => devices.Count == 1 ? options.Name : $"{options.Name}/{device}";
        var owner = new Owner(options.Log);
        var processes = new WorkerProcesses(
            new()
            {
                Command = options.Command,
                Processes = [.. devices.Select(device => (NameOf(device), device))],
                Head = options.Head,
                Worker = options.Worker,
            },
            owner
        );
        processes.Start();

        return new(options, processes, owner);
    }

    /// <summary>Runs until all workers have left. When <paramref name="drain"/> is cancelled, they finish their work first.</summary>
    /// <returns>False when the head refused some, or some did not leave in time.</returns>
    public async Task<bool> RunAsync(CancellationToken drain)
    {
        try
        {
            await processes.Ended.WaitAsync(drain);
            return !owner.IsRefused;
        }
        catch (OperationCanceledException) { }

        processes.Drain();
        var timeout = options.Worker.DrainTimeout + Grace;
        try
        {
            await processes.Ended.WaitAsync(timeout, CancellationToken.None);
        }
        catch (TimeoutException)
        {
            options.Log(
                $"Waited {timeout.TotalSeconds:0} s for the workers to leave; "
                    + "they are killed, and other workers do their work again"
            );
            return false;
        }

        return true;
    }

    public ValueTask DisposeAsync() => processes.DisposeAsync();

    /// <summary>Logs what happens to the processes; a trainer elsewhere uses them.</summary>
    private sealed class Owner(Action<string> log) : IProcessOwner
    {
        /// <summary>A process that lived this long counts as having come up.</summary>
        private static readonly TimeSpan UpAfter = TimeSpan.FromSeconds(10);

        /// <summary>The head has refused a worker.</summary>
        public bool IsRefused { get; private set; }

        public void OnStarting(string name, string instance) { }

        public void OnStarted(string instance, int processId) { }

        public Task<ProcessEnd> OnEndedAsync(string instance, string ending, TimeSpan lifetime) =>
            Task.FromResult(new ProcessEnd(ending, lifetime > UpAfter));

        public void OnLeft(string name) => log($"{name} has finished and left");

        public void OnRefused(string name, string reason)
        {
            IsRefused = true;
            log($"{name} ends: {reason}");
        }

        public void OnFailed(string name, string reason, int failures) => log($"{name}: {reason}");

        public void OnGivenUp(string name, string reason, int failures) =>
            log($"{name} failed to start {failures} times in a row and is given up: {reason}");
    }
}
