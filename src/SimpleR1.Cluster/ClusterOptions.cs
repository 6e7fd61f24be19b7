using SimpleR1.Cluster.Head;
using SimpleR1.Cluster.Processes;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Trainer.Weights;
using SimpleR1.Inference;
using SimpleR1.WeightSync;

namespace SimpleR1.Cluster;

/// <summary>A trainer's cluster: a head in this process with workers on this machine or others, or the workers of another head.</summary>
public sealed record ClusterOptions
{
    /// <summary>The head whose workers to use; null starts a head and workers here.</summary>
    public HeadAddress? Join { get; init; }

    /// <summary>The trainer's name in <c>simple-r1 status</c>.</summary>
    public string Name { get; init; } = "trainer";

    /// <summary>
    /// The head to start here, for workers of other machines to join too; null starts one for this process's workers only.
    /// </summary>
    public HeadOptions? Head { get; init; }

    /// <summary>Port of the head on the loopback interface, where <see cref="Head"/> is null; 0 is any free one.</summary>
    public int Port { get; init; }

    /// <summary>Worker processes to start; 0 only with a <see cref="Head"/> that others join.</summary>
    public int Workers { get; init; } = 1;

    /// <summary>How each of these processes computes. With several devices they take turns.</summary>
    public WorkerSettings Worker { get; init; } = new();

    /// <summary>
    /// The program and first arguments that start a worker process, whose own options follow; this program's <c>worker</c> command
    /// by default.
    /// </summary>
    public IReadOnlyList<string> WorkerCommand { get; init; } = WorkerProcesses.ThisProgram();
    internal bool OthersStartWorkers => Join is not null || Workers == 0;

    /// <summary>
    /// What the trainer shares with those of these workers that compute on its GPU; null shares nothing, and each worker has
    /// its own weights and memory.
    /// </summary>
    public ColocatedMemory? Colocated { get; init; }

    /// <summary>How weights travel to workers that do not share the trainer's.</summary>
    public WeightTransportChoice Transport { get; init; } = WeightTransportChoice.Auto;

    /// <summary>What becomes of sequences that are being generated when new weights come.</summary>
    public OnUpdate OnUpdate { get; init; } = OnUpdate.Keep;

    /// <summary>
    /// Workers receive into a second buffer while they decode, and swap by one copy between two steps. Costs the memory of the
    /// weights once more.
    /// </summary>
    public bool Overlap { get; init; }

    /// <summary>
    /// Over TCP, send only what has changed since the last version, where that is less. Costs the trainer's machine the memory of
    /// the weights once more.
    /// </summary>
    public bool Delta { get; init; }

    /// <summary>
    /// The trainer's GPUs that NCCL sends from, each a slice of the weights: cuda, cuda:N, several with commas, or all; null where
    /// the trainer has none.
    /// </summary>
    public string? SendDevice { get; init; }

    /// <summary>
    /// The folder for each worker's output (<c>worker-1.log</c>) and the cluster's warnings (<c>cluster.log</c>); null shows output on
    /// standard error.
    /// </summary>
    public string? LogFolder { get; init; }

    /// <summary>Time from the start of a worker's process until it can take weights.</summary>
    public TimeSpan StartTimeout { get; init; } = TimeSpan.FromSeconds(90);

    /// <summary>Time for a worker to receive one weight set.</summary>
    public TimeSpan SyncTimeout { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>
    /// Time for a worker to give a sign of life in the middle of a weight update. One that does not counts as dead, so that the
    /// others don't wait.
    /// </summary>
    public TimeSpan SilenceTimeout { get; init; } = TimeSpan.FromSeconds(6);

    /// <summary>Time for a worker to answer. One that does not counts as dead and is replaced.</summary>
    public TimeSpan ResponseTimeout { get; init; } = TimeSpan.FromSeconds(20);

    /// <summary>Time for an engine with work to make a step. One that does not counts as hung, and its worker is replaced.</summary>
    public TimeSpan StallTimeout { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>How long a disconnected worker may take to reconnect: its head was restarted, or a network failed and healed.</summary>
    public TimeSpan RejoinTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Time for the first worker of another head to come, and for one to come when all are gone.</summary>
    public TimeSpan WorkerWait { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>
    /// Most samples that a worker gets before it has finished others; 0 is twice its <see cref="EngineOptions.MaxSequences"/>. More
    /// samples wait in the trainer, for the first worker with room.
    /// </summary>
    public int QueueSamples { get; init; }

    /// <summary>
    /// After this time, an idle worker repeats what others have not finished, and the first result of a sample counts; null turns
    /// hedging off.
    /// </summary>
    public TimeSpan? HedgeAfter { get; init; }

    /// <summary>A worker that fails to start this often in a row isn't started again.</summary>
    public int StartAttempts { get; init; } = 3;

    /// <summary>Takes one line about each thing a person should know: a worker lost, replaced, given up.</summary>
    public Action<string> Log { get; init; } = Console.Error.WriteLine;

    /// <summary>Called when a weight update enters a phase.</summary>
    internal Action<UpdatePhase> Phase { get; init; } = _ => { };
}
