using System.Diagnostics;
using SimpleR1.Cluster.Membership;

namespace SimpleR1.Cluster.Head;

/// <summary>A cluster as its head sees it.</summary>
/// <param name="Trainer">The trainer that uses the workers; null when there is none.</param>
public sealed record ClusterStatus(
    string Head,
    string Membership,
    double UptimeSeconds,
    TrainerEntry? Trainer,
    IReadOnlyList<WorkerEntry> Workers
);

/// <param name="Queued">Samples that wait for a worker with room.</param>
/// <param name="HeartbeatSeconds">Since the last sign of life.</param>
public sealed record TrainerEntry(
    string Name,
    string Host,
    int ProcessId,
    int WeightVersion,
    int Queued,
    double HeartbeatSeconds
);

/// <param name="State">By the trainer's account where there is one, else by its own; <c>silent</c> when it has not reported for some seconds.</param>
/// <param name="WeightVersion">-1 for none.</param>
/// <param name="OutstandingTokens">Most tokens that its unfinished requests may still take.</param>
public sealed record WorkerEntry(
    string Name,
    string Host,
    string Device,
    int ProcessId,
    string State,
    int WeightVersion,
    int Running,
    int Waiting,
    long OutstandingTokens,
    double TokensPerSecond,
    long MemoryBytes,
    double HeartbeatSeconds
);

/// <summary>Who is connected to the head, what each said last and when. Safe to use from several threads.</summary>
internal sealed class Roster
{
    /// <summary>Members report every second.</summary>
    public static readonly TimeSpan SilentAfter = TimeSpan.FromSeconds(5);

    private readonly Lock gate = new();
    private readonly SortedDictionary<string, Member> workers = new(StringComparer.Ordinal);
    private Member? trainer;

    private sealed class Member(HelloMessage hello)
    {
        public readonly HelloMessage Hello = hello;
        public WorkerReport? Report;
        public TrainerReport? Trainer;
        public long HeardAt = Stopwatch.GetTimestamp();
        public int Connections = 1; // one that broke off may be noticed after the next one has begun
        public bool Drain,
            Condemned;
        public bool Connected => Connections > 0;
        public double Heartbeat => Stopwatch.GetElapsedTime(HeardAt).TotalSeconds;
    }

    /// <summary>The trainer in the head's own process, where there is one.</summary>
    public Func<(string Name, TrainerReport Report)?> OwnTrainer { get; set; } = () => null;

    /// <summary>Takes a member in.</summary>
    /// <param name="replaced">The process that had this name before, and is gone therefore.</param>
    /// <returns>Why it can't be; null when it is.</returns>
    public string? Add(HelloMessage hello, out HelloMessage? replaced)
    {
        replaced = null;
        lock (gate)
            switch (hello.Role)
            {
                case MemberRole.Worker:
                    if (
                        workers.TryGetValue(hello.Name, out var former)
                        && former.Hello.Instance != hello.Instance
                        && former.Connected
                        && former.Heartbeat < SilentAfter.TotalSeconds
                    )
                        return $"a worker named '{hello.Name}' is there already, on {former.Hello.Host} (process {former.Hello.ProcessId}); give this one another --name";
                    if (Again(former, hello))
                        return null;
                    replaced = former?.Hello;
                    workers[hello.Name] = new(hello);
                    return null;
                case MemberRole.Trainer:
                    if (OwnTrainer() is { } own)
                        return $"the trainer '{own.Name}' in the head's own process has the workers";
                    if (trainer is { Connected: true } other && other.Hello.Instance != hello.Instance)
                        return $"the trainer '{other.Hello.Name}' on {other.Hello.Host} (process {other.Hello.ProcessId}) has the workers; a cluster has one trainer at a time";
                    if (!Again(trainer, hello))
                        trainer = new(hello);
                    return null;
                default:
                    return null;
            }
    }

    /// <returns>Whether the worker is to drain; null when it is not known here (any more) and must say hello again.</returns>
    public bool? Heard(HelloMessage hello, WorkerReport? report, TrainerReport? trainerReport)
    {
        lock (gate)
        {
            if (Find(hello) is not { } member)
                return null;
            member.HeardAt = Stopwatch.GetTimestamp();
            member.Report = report ?? member.Report;
            member.Trainer = trainerReport ?? member.Trainer;
            return member.Drain;
        }
    }

    /// <summary>Workers that the trainer has given up; each is named once.</summary>
    public IReadOnlyList<HelloMessage> Condemned()
    {
        lock (gate)
        {
            var dead =
                trainer?.Trainer?.Workers.Where(w => w.State == WorkerState.Dead).Select(w => w.Instance).ToHashSet()
                ?? [];
            var condemned = workers.Values.Where(w => !w.Condemned && dead.Contains(w.Hello.Instance)).ToArray();
            foreach (var worker in condemned)
                worker.Condemned = true;
            return [.. condemned.Select(w => w.Hello)];
        }
    }

    /// <summary>One of its connections has ended; it may have another by now.</summary>
    public void Disconnected(HelloMessage hello)
    {
        lock (gate)
            if (Find(hello) is { } member)
                member.Connections--;
    }

    /// <summary>Whether the process is known already; then it has one more connection.</summary>
    private static bool Again(Member? known, HelloMessage hello)
    {
        if (known?.Hello.Instance != hello.Instance)
            return false;
        known!.Connections++;
        known.HeardAt = Stopwatch.GetTimestamp();
        return true;
    }

    /// <summary>Forgets a member that did not connect again.</summary>
    /// <returns>Whether it was still there, and gone.</returns>
    public bool Forget(HelloMessage hello)
    {
        lock (gate)
        {
            if (Find(hello) is not { Connected: false })
                return false;
            if (hello.Role == MemberRole.Worker)
                workers.Remove(hello.Name);
            else
                trainer = null;
            return true;
        }
    }

    /// <returns>Null, or why it can't.</returns>
    public string? Drain(string worker)
    {
        lock (gate)
        {
            if (!workers.TryGetValue(worker, out var member))
                return $"There is no worker '{worker}'; there {(workers.Count == 0 ? "are none" : "are: " + string.Join(", ", workers.Keys))}";
            member.Drain = true;
            return null;
        }
    }

    public (TrainerEntry? Trainer, IReadOnlyList<WorkerEntry> Workers) Entries()
    {
        lock (gate)
        {
            var report = OwnTrainer() is { } own ? own.Report : trainer?.Trainer;
            var seen = report?.Workers.ToDictionary(w => w.Instance) ?? [];
            var entries = workers.Values.Select(w => Entry(w, seen.GetValueOrDefault(w.Hello.Instance))).ToArray();
            TrainerEntry? user =
                OwnTrainer() is { } inside
                    ? new(
                        inside.Name,
                        Environment.MachineName,
                        Environment.ProcessId,
                        inside.Report.WeightVersion,
                        inside.Report.Queued,
                        0
                    )
                : trainer is { } t
                    ? new(
                        t.Hello.Name,
                        t.Hello.Host,
                        t.Hello.ProcessId,
                        t.Trainer?.WeightVersion ?? -1,
                        t.Trainer?.Queued ?? 0,
                        t.Heartbeat
                    )
                : null;
            return (user, entries);
        }
    }

    private static WorkerEntry Entry(Member worker, WorkerStatus? seen)
    {
        var (hello, report) = (worker.Hello, worker.Report);
        string state =
            report is null ? "joining"
            : worker.Heartbeat > SilentAfter.TotalSeconds ? "silent"
            : worker.Drain ? "draining"
            : seen is not null ? seen.State.ToString().ToLowerInvariant()
            : report.State;
        return new(
            hello.Name,
            hello.Host,
            hello.Device,
            hello.ProcessId,
            state,
            report?.WeightVersion ?? -1,
            report?.Running ?? 0,
            report?.Waiting ?? 0,
            seen?.OutstandingTokens ?? 0,
            report?.TokensPerSecond ?? 0,
            report?.MemoryBytes ?? 0,
            worker.Heartbeat
        );
    }

    private Member? Find(HelloMessage hello) =>
        hello.Role switch
        {
            MemberRole.Worker => workers.TryGetValue(hello.Name, out var worker)
            && worker.Hello.Instance == hello.Instance
                ? worker
                : null,
            MemberRole.Trainer => trainer?.Hello.Instance == hello.Instance ? trainer : null,
            _ => null,
        };
}
