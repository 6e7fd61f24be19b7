namespace SimpleR1.Cluster.Wire;

/// <summary>What a process is to the cluster.</summary>
internal enum MemberRole
{
    Worker,
    Trainer,
    Observer,
}

/// <summary>The first frame of a connection to the head.</summary>
internal sealed record HelloMessage
{
    public const int CurrentProtocol = 4;

    private const int MaxNameLength = 200;

    // A stranger's JSON may lack any of these, which Problem() finds.
    public int Protocol { get; init; }
    public MemberRole Role { get; init; }
    public string Name { get; init; } = null!;

    /// <summary>Differs for each process that ever joins.</summary>
    public string Instance { get; init; } = null!;
    public string Host { get; init; } = null!;
    public int ProcessId { get; init; }
    public string Device { get; init; } = null!;

    /// <summary>The hello of this process.</summary>
    public static HelloMessage Create(MemberRole role, string name = "", string instance = "", string device = "") =>
        new()
        {
            Protocol = CurrentProtocol,
            Role = role,
            Name = name,
            Instance = instance,
            Host = Environment.MachineName,
            ProcessId = Environment.ProcessId,
            Device = device,
        };

    /// <summary>Why a process with this hello can't join; null when it can.</summary>
    public string? Problem()
    {
        if (Protocol != CurrentProtocol)
            return $"the head speaks protocol {CurrentProtocol}, this process {Protocol}; "
                + "run the same version of SimpleR1 everywhere";
        if (!Enum.IsDefined(Role) || Name is null || Instance is null || Host is null || Device is null)
            return "its first message is incomplete";
        if (!IsValid(Name) || !IsValid(Instance))
            return $"the name '{Name}' is too long or has a '|'; give it another --name";
        return null;
    }

    private static bool IsValid(string name) => !name.Contains('|') && name.Length <= MaxNameLength;
}

/// <summary>The head's answer to a hello: where and how to start a silo.</summary>
/// <param name="Refused">Why this process may not join; null when it may.</param>
/// <param name="ClusterId">A new one means a new membership, which needs a new silo.</param>
/// <param name="SiloEndpoint">The head's silo, which has the membership unless <paramref name="Redis"/> has.</param>
internal sealed record WelcomeMessage(string? Refused, string ClusterId, string SiloEndpoint, string? Redis);

internal enum HeadAsk
{
    Report,
    Turn,
    Joined,
    Status,
    Drain,
}

/// <summary>A member's question after the welcome. The head answers each with one <see cref="HeadReply"/>.</summary>
/// <param name="Worker">The name of the worker to drain.</param>
internal sealed record HeadRequest(
    HeadAsk Ask,
    WorkerReport? Report = null,
    TrainerReport? Trainer = null,
    string? Worker = null
);

/// <param name="Drain">The worker that reported must finish its work and leave.</param>
internal sealed record HeadReply(string? Error = null, bool Drain = false, ClusterStatus? Status = null);

/// <summary>A worker's condition by its own account.</summary>
internal sealed record WorkerReport
{
    public string State { get; init; } = "";

    /// <summary>-1 for none.</summary>
    public int WeightVersion { get; init; } = -1;
    public int Running { get; init; }
    public int Waiting { get; init; }
    public double TokensPerSecond { get; init; }
    public long MemoryBytes { get; init; }
}

/// <summary>The workers as their trainer sees them.</summary>
/// <param name="Queued">Samples that no worker has taken yet.</param>
internal sealed record TrainerReport(int WeightVersion, int Queued, IReadOnlyList<WorkerStatus> Workers);
