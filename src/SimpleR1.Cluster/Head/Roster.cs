using System.Diagnostics;
using SimpleR1.Cluster.Wire;

namespace SimpleR1.Cluster.Head;

/// <summary>The members that are connected to the head, with the last report of each. Safe to use from several threads.</summary>
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
        public bool Drain,
            Condemned;

        /// <summary>Can be 2 for a while: the end of a lost connection may be noticed after the next one has begun.</summary>
        public int Connections = 1;
        public bool Connected => Connections > 0;

        /// <summary>Seconds since the last sign of life.</summary>
        public double Heartbeat => Stopwatch.GetElapsedTime(HeardAt).TotalSeconds;
    }

    /// <summary>The trainer in the head's own process; null where there is none.</summary>
    public Func<(string Name, TrainerReport Report)?> OwnTrainer { get; set; } = () => null;

    /// <summary>Adds a member, or a connection to a member.</summary>
    /// <param name="replaced">The process that had this name before, and is therefore gone.</param>
    /// <returns>Why the member can't be added; null when it was.</returns>
    public string? Add(HelloMessage hello, out HelloMessage? replaced)
    {
        replaced = null;
        lock (gate)
            return hello.Role switch
            {
                MemberRole.Worker => AddWorker(hello, out replaced),
                MemberRole.Trainer => AddTrainer(hello),
                _ => null,
            };
    }

    private string? AddWorker(HelloMessage hello, out HelloMessage? replaced)
    {
        replaced = null;
        bool known = workers.TryGetValue(hello.Name, out var former);
        if (
            known
            && former!.Hello.Instance != hello.Instance
            && former.Connected
            && former.Heartbeat < SilentAfter.TotalSeconds
        )
            return $"a worker named '{hello.Name}' is there already, on {former.Hello.Host} "
                + $"(process {former.Hello.ProcessId}); give this one another --name";
        if (Reconnect(former, hello))
            return null;

        replaced = former?.Hello;
        workers[hello.Name] = new(hello);
        return null;
    }

    private string? AddTrainer(HelloMessage hello)
    {
        if (OwnTrainer() is { } own)
            return $"the trainer '{own.Name}' in the head's own process has the workers";
        if (trainer is { Connected: true } && trainer.Hello.Instance != hello.Instance)
            return $"the trainer '{trainer.Hello.Name}' on {trainer.Hello.Host} (process {trainer.Hello.ProcessId}) "
                + "has the workers; a cluster has one trainer at a time";

        if (!Reconnect(trainer, hello))
            trainer = new(hello);
        return null;
    }

    /// <summary>Counts one more connection where the process is a member already.</summary>
    private static bool Reconnect(Member? member, HelloMessage hello)
    {
        if (member?.Hello.Instance != hello.Instance)
            return false;

        member!.Connections++;
        member.HeardAt = Stopwatch.GetTimestamp();
        return true;
    }

    /// <summary>Stores a member's report.</summary>
    /// <returns>Whether the worker must drain; null for a process that is no member (any more) and must say hello again.</returns>
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

    /// <summary>Counts the end of one of a member's connections; the member may have another by now.</summary>
    public void Disconnected(HelloMessage hello)
    {
        lock (gate)
            if (Find(hello) is { } member)
                member.Connections--;
    }

    /// <summary>Forgets a member that did not connect again.</summary>
    /// <returns>Whether it was a member whose end is not known yet.</returns>
    public bool Forget(HelloMessage hello)
    {
        lock (gate)
        {
            if (Find(hello) is not { Connected: false } member)
                return false;

            if (hello.Role == MemberRole.Worker)
                workers.Remove(hello.Name);
            else
                trainer = null;

            return !member.Condemned; // its end was reported with the trainer's verdict
        }
    }

    /// <summary>Asks a worker to leave, with the reply to its next report.</summary>
    /// <returns>Null, or why that is not possible.</returns>
    public string? Drain(string worker)
    {
        lock (gate)
        {
            if (!workers.TryGetValue(worker, out var member))
            {
                string names = workers.Count == 0 ? "are none" : "are: " + string.Join(", ", workers.Keys);
                return $"There is no worker '{worker}'; there {names}";
            }

            member.Drain = true;
            return null;
        }
    }

    public (TrainerEntry? Trainer, IReadOnlyList<WorkerEntry> Workers) Entries()
    {
        lock (gate)
        {
            var own = OwnTrainer();
            var report = own is null ? trainer?.Trainer : own.Value.Report;
            var seen = report?.Workers.ToDictionary(w => w.Instance) ?? [];
            var entries = workers.Values.Select(w => Entry(w, seen.GetValueOrDefault(w.Hello.Instance))).ToArray();

            return (own is null ? Entry(trainer) : Entry(own.Value.Name, own.Value.Report), entries);
        }
    }

    private static TrainerEntry Entry(string name, TrainerReport report) =>
        new()
        {
            Name = name,
            Host = Environment.MachineName,
            ProcessId = Environment.ProcessId,
            WeightVersion = report.WeightVersion,
            Queued = report.Queued,
            HeartbeatSeconds = 0,
        };

    private static TrainerEntry? Entry(Member? trainer) =>
        trainer is null
            ? null
            : new()
            {
                Name = trainer.Hello.Name,
                Host = trainer.Hello.Host,
                ProcessId = trainer.Hello.ProcessId,
                WeightVersion = trainer.Trainer?.WeightVersion ?? -1,
                Queued = trainer.Trainer?.Queued ?? 0,
                HeartbeatSeconds = trainer.Heartbeat,
            };

    /// <param name="seen">The worker as the trainer sees it.</param>
    private static WorkerEntry Entry(Member worker, WorkerStatus? seen)
    {
        var hello = worker.Hello;
        var report = worker.Report;
        return new()
        {
            Name = hello.Name,
            Host = hello.Host,
            Device = hello.Device,
            ProcessId = hello.ProcessId,
            State = StateOf(worker, seen),
            WeightVersion = report?.WeightVersion ?? -1,
            Running = report?.Running ?? 0,
            Waiting = report?.Waiting ?? 0,
            OutstandingTokens = seen?.OutstandingTokens ?? 0,
            TokensPerSecond = report?.TokensPerSecond ?? 0,
            MemoryBytes = report?.MemoryBytes ?? 0,
            HeartbeatSeconds = worker.Heartbeat,
        };
    }

    private static string StateOf(Member worker, WorkerStatus? seen)
    {
        if (worker.Report is null)
            return "joining";
        if (worker.Heartbeat > SilentAfter.TotalSeconds)
            return "silent";
        if (worker.Drain)
            return "draining";

        return seen?.State.ToString().ToLowerInvariant() ?? worker.Report.State;
    }

    private Member? Find(HelloMessage hello)
    {
        var member = hello.Role switch
        {
            MemberRole.Worker => workers.GetValueOrDefault(hello.Name),
            MemberRole.Trainer => trainer,
            _ => null,
        };
        return member?.Hello.Instance == hello.Instance ? member : null;
    }
}
