namespace SimpleR1.Cluster;

/// <summary>
/// How a worker process computes and how others reach it. The same record travels from the recipe or the command line,
/// through the process's arguments, to the worker's runtime.
/// </summary>
public sealed record WorkerSettings
{
    public const string DefaultDevice = "cpu";
    public const string DefaultType = "bf16";

    /// <summary>
    /// The device to compute on: cpu, cuda or cuda:N. Where several processes are started, also several with commas, or all
    /// for one GPU after another.
    /// </summary>
    public string Device { get; init; } = DefaultDevice;

    /// <summary>Element type of the weights on a GPU: bf16, f16 or f32.</summary>
    public string Type { get; init; } = DefaultType;

    /// <summary>Threads of the process's tensor code; 0 shares the machine's cores evenly among the processes.</summary>
    public int Threads { get; init; }

    /// <summary>Port of the process's silo; 0 is any free one. Several processes always take free ones.</summary>
    public int SiloPort { get; init; }

    /// <summary>How long the process may finish its work when it is asked to leave.</summary>
    public TimeSpan DrainTimeout { get; init; } = TimeSpan.FromSeconds(30);
}
