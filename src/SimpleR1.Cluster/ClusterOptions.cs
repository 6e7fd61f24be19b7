using SimpleR1.Cluster.Head;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Processes;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.WeightSync;

namespace SimpleR1.Cluster;

/// <summary>A head in this process and worker processes on this machine or others, or the workers of another head.</summary>
public sealed record ClusterOptions
{
    /// <summary>The head whose workers to use; null starts a head and workers here.</summary>
    public HeadAddress? Join { get; init; }

    /// <summary>What the trainer is called in <c>simple-r1 status</c>.</summary>
    public string Name { get; init; } = "trainer";

    /// <summary>The head to start here, for workers of other machines to join too; null starts one for this process's workers only.</summary>
    public HeadOptions? Head { get; init; }

    /// <summary>Worker processes to start; 0 only with a <see cref="Head"/> that others join.</summary>
    public int Workers { get; init; } = 1;
    internal bool OthersStartWorkers => Join is not null || Workers == 0;

    /// <summary>What they compute on: cpu, cuda, cuda:N, several with commas, or all for one GPU after another.</summary>
    public string Device { get; init; } = "cpu";

    /// <summary>Element type of their weights on a GPU: bf16, f16 or f32.</summary>
    public string Type { get; init; } = "bf16";

    /// <summary>Threads of each worker's tensor code; 0 shares the machine's cores evenly.</summary>
    public int ThreadsPerWorker { get; init; }

    /// <summary>Port of the head on the loopback interface; 0 is any free one.</summary>
    public int Port { get; init; }
    public WeightTransportChoice Transport { get; init; } = WeightTransportChoice.Auto;

    /// <summary>What becomes of sequences that are being generated when new weights come.</summary>
    public OnUpdate OnUpdate { get; init; } = OnUpdate.Keep;

    /// <summary>Workers receive into a second buffer while they go on decoding, and swap by one copy between two steps; costs the memory of the weights once more.</summary>
    public bool Overlap { get; init; }

    /// <summary>Over TCP, send only what has changed since the last version, where that is less; costs the trainer's machine the memory of the weights once more.</summary>
    public bool Delta { get; init; }

    /// <summary>The trainer's GPUs that NCCL sends from, each a slice of the weights: cuda, cuda:N, several with commas, or all; null where it has none.</summary>
    public string? SendDevice { get; init; }

    /// <summary>Where each worker's output (<c>worker-1.log</c>) and the cluster's warnings (<c>cluster.log</c>) go; null shows output on standard error.</summary>
    public string? LogFolder { get; init; }

    /// <summary>The program and first arguments that start a worker process (its own options follow); this program's <c>worker</c> command by default.</summary>
    public IReadOnlyList<string> WorkerCommand { get; init; } = WorkerProcesses.ThisProgram();

    /// <summary>From the start of a worker's process until it can take weights.</summary>
    public TimeSpan StartTimeout { get; init; } = TimeSpan.FromSeconds(90);

    /// <summary>For a worker to receive one weight set.</summary>
    public TimeSpan SyncTimeout { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>For a worker to give a sign of life in the middle of a weight update; one that doesn't is taken for dead, so that the others don't wait.</summary>
    public TimeSpan SilenceTimeout { get; init; } = TimeSpan.FromSeconds(6);

    /// <summary>For a worker to answer; one that doesn't is taken for dead and replaced.</summary>
    public TimeSpan ResponseTimeout { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>For an engine with work to make a step; one that doesn't is taken for hung and replaced.</summary>
    public TimeSpan StallTimeout { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>For a worker to come back after the way to it broke off: a head that was restarted, a network that heals.</summary>
    public TimeSpan RejoinTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>For the first worker of another head to come, and for one to come when all are gone.</summary>
    public TimeSpan WorkerWait { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>Most samples a worker is given before it has finished others; 0 is twice its <see cref="EngineOptions.MaxSequences"/>. What is beyond waits here, for whoever has room first.</summary>
    public int QueueSamples { get; init; }

    /// <summary>After this time, a worker with nothing to do repeats what others have not finished, and the first to finish a sample counts; null doesn't.</summary>
    public TimeSpan? HedgeAfter { get; init; }

    /// <summary>A worker that fails to start this often in a row isn't started again.</summary>
    public int StartAttempts { get; init; } = 3;

    /// <summary>One line about each thing a person should know: a worker lost, replaced, given up.</summary>
    public Action<string> Log { get; init; } = Console.Error.WriteLine;

    /// <summary>Told when a weight update enters a phase.</summary>
    internal Action<UpdatePhase> Phase { get; init; } = _ => { };
}

/// <summary>What a worker needs to build its engine; sent to it when it has joined.</summary>
/// <param name="TokenizerJson">Contents of <c>tokenizer.json</c>; null where completions need no text and no stop strings.</param>
public sealed record WorkerSetup(ModelConfig Config, byte[]? TokenizerJson, EngineOptions Engine);

/// <summary>A worker as the trainer sees it.</summary>
/// <param name="Number">From 1; a replacement keeps the number.</param>
/// <param name="Instance">Differs for each process.</param>
/// <param name="ProcessId">0 before its process has started.</param>
/// <param name="WeightVersion">Of the weights it has proven to hold; -1 for none.</param>
/// <param name="OutstandingTokens">Most tokens that its unfinished requests may still take.</param>
/// <param name="TokensPerSecond">Generated, over the time it had work.</param>
/// <param name="PeakMemoryBytes">Most physical memory that a process of this number has held, shared weights included.</param>
/// <param name="Replacements">How often the process of this number was replaced.</param>
public sealed record WorkerStatus(
    int Number,
    string Name,
    string Instance,
    int ProcessId,
    WorkerState State,
    int WeightVersion,
    long OutstandingTokens,
    double TokensPerSecond,
    long PeakMemoryBytes,
    int Replacements
);
