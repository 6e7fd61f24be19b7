using System.Buffers.Binary;
using System.Text.Json;
using SimpleR1.Cluster.Head;

namespace SimpleR1.Cluster.Membership;

/// <summary>What a process is to the cluster.</summary>
internal enum MemberRole
{
    Worker,
    Trainer,
    Observer,
}

/// <summary>The first frame of a connection to the head.</summary>
/// <param name="Instance">Differs for each process that ever joins.</param>
internal sealed record HelloMessage(
    int Protocol,
    MemberRole Role,
    string Name,
    string Instance,
    string Host,
    int ProcessId,
    string Device
)
{
    public const int CurrentProtocol = 2;

    /// <summary>Why nobody can join with this; null when one can.</summary>
    public string? Problem() =>
        Protocol != CurrentProtocol
            ? $"the head speaks protocol {CurrentProtocol}, this process {Protocol}; run the same version of SimpleR1 everywhere"
        : !Enum.IsDefined(Role) || Name is null || Instance is null || Host is null || Device is null
            ? "its first message is incomplete"
        : Name.Contains('|') || Instance.Contains('|') || Name.Length > 200 || Instance.Length > 200
            ? $"the name '{Name}' is too long or has a '|'; give it another --name"
        : null;

    public static HelloMessage Observer() =>
        new(CurrentProtocol, MemberRole.Observer, "", "", Environment.MachineName, Environment.ProcessId, "");
}

/// <summary>The head's answer: where and how to start a silo.</summary>
/// <param name="Refused">Why this process may not join; null when it may.</param>
/// <param name="ClusterId">Another one than before means another membership: the silo must be made anew.</param>
/// <param name="SiloEndpoint">Of the head's silo, which has the membership unless <paramref name="Redis"/> has.</param>
internal sealed record WelcomeMessage(string? Refused, string ClusterId, string SiloEndpoint, string? Redis);

internal enum HeadAsk
{
    Report,
    Turn,
    Joined,
    Status,
    Drain,
}

/// <summary>What a member asks after the welcome; each is answered by one <see cref="HeadReply"/>.</summary>
/// <param name="Worker">The name of the worker to drain.</param>
internal sealed record HeadRequest(
    HeadAsk Ask,
    WorkerReport? Report = null,
    TrainerReport? Trainer = null,
    string? Worker = null
);

/// <param name="Drain">The worker that reported is to finish what it has and leave.</param>
internal sealed record HeadReply(string? Error = null, bool Drain = false, ClusterStatus? Status = null);

/// <summary>How a worker is, by its own account.</summary>
internal sealed record WorkerReport(
    string State,
    int WeightVersion,
    int Running,
    int Waiting,
    double TokensPerSecond,
    long MemoryBytes
);

/// <summary>How a trainer sees its workers.</summary>
/// <param name="Queued">Samples that no worker has taken yet.</param>
internal sealed record TrainerReport(int WeightVersion, int Queued, IReadOnlyList<WorkerStatus> Workers);

/// <summary>
/// Frames on a connection between the head and others: int32 length (big-endian, so that TLS or HTTP that comes here by mistake is too long at once), then JSON of the one type that may come at this point.
/// The types are fixed and closed; nothing on the wire names a type.
/// </summary>
internal sealed class FrameStream(Stream stream) : IAsyncDisposable
{
    private const int MaxBytes = 1 << 20;

    public async Task SendAsync<T>(T value, CancellationToken cancellation)
    {
        byte[] json = JsonSerializer.SerializeToUtf8Bytes(value, Wire.Json);
        byte[] frame = new byte[sizeof(int) + json.Length];
        BinaryPrimitives.WriteInt32BigEndian(frame, json.Length);
        json.CopyTo(frame, sizeof(int));
        await stream.WriteAsync(frame, cancellation);
        await stream.FlushAsync(cancellation);
    }

    /// <exception cref="EndOfStreamException">The other end has closed the connection.</exception>
    /// <exception cref="InvalidDataException">What came is no such frame.</exception>
    public async Task<T> ReceiveAsync<T>(CancellationToken cancellation)
        where T : class
    {
        byte[] header = new byte[sizeof(int)];
        await stream.ReadExactlyAsync(header, cancellation);
        int length = BinaryPrimitives.ReadInt32BigEndian(header);
        if (length is <= 0 or > MaxBytes)
            throw new InvalidDataException($"expected a frame of 1 to {MaxBytes} bytes, found the length {length}");
        byte[] json = new byte[length];
        await stream.ReadExactlyAsync(json, cancellation);
        try
        {
            return JsonSerializer.Deserialize<T>(json, Wire.Json)
                ?? throw new InvalidDataException($"expected a {typeof(T).Name}, found null");
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"expected a {typeof(T).Name}: {e.Message}", e);
        }
    }

    public ValueTask DisposeAsync() => stream.DisposeAsync();
}
