using System.IO.Hashing;
using System.Runtime.InteropServices;

namespace SimpleR1.Cluster.Trainer.Rollouts;

/// <summary>A worker's load while requests are assigned; grows with each request that the worker gets.</summary>
internal sealed class WorkerLoad(int worker, long tokens, int samples)
{
    public int Worker => worker;

    /// <summary>Most samples that the worker gets before it has finished others.</summary>
    public int Window { get; init; } = int.MaxValue;

    /// <summary>Most tokens that the worker's unfinished requests may still take.</summary>
    public long Tokens { get; set; } = tokens;
    public int Samples { get; set; } = samples;
}

/// <summary>
/// Chooses the worker for a request: the one that has the prompt's keys and values cached, unless it has much more to do than
/// others; else the one with the fewest outstanding tokens. While all queues are full it chooses none: the request waits until a
/// worker has room, and goes to that one. Safe to use from several threads.
/// </summary>
internal sealed class Router
{
    /// <summary>
    /// How many requests like this one the worker with the prompt may have more than the idlest worker. To compute a prompt again
    /// costs less than to wait for more than these.
    /// </summary>
    private const int MostRequestsAhead = 16;
    private const int MaxPrompts = 1 << 16;

    private readonly Lock gate = new();
    private readonly Dictionary<ulong, int> holders = []; // prompt → worker

    /// <summary>Requests whose prompt a worker had, and how many of them went to that worker.</summary>
    public (long Known, long Hits) Affinity { get; private set; }

    /// <param name="cost">Most tokens the request may take.</param>
    /// <returns>The worker, its load grown by the request; null when none has room.</returns>
    public WorkerLoad? Choose(IReadOnlyList<WorkerLoad> loads, ReadOnlySpan<int> prompt, long cost, int samples)
    {
        ulong key = XxHash3.HashToUInt64(MemoryMarshal.AsBytes(prompt));
        lock (gate)
        {
            // The idlest worker with room, and the one with the prompt where it has room.
            WorkerLoad? least = null,
                holder = null;
            bool known = holders.TryGetValue(key, out int worker);
            foreach (var load in loads)
            {
                if (load.Samples > 0 && load.Samples + samples > load.Window)
                    continue;
                if (least is null || load.Tokens < least.Tokens)
                    least = load;
                if (known && load.Worker == worker)
                    holder = load;
            }
            if (least is null)
                return null;

            bool hit = holder is not null && holder.Tokens - least.Tokens <= MostRequestsAhead * cost;
            if (known)
                Affinity = (Affinity.Known + 1, Affinity.Hits + (hit ? 1 : 0));

            // The chosen one has the prompt from now on.
            var chosen = hit ? holder! : least;
            if (holders.Count >= MaxPrompts)
                holders.Clear();
            holders[key] = chosen.Worker;
            chosen.Tokens += cost;
            chosen.Samples += samples;

            return chosen;
        }
    }

    /// <summary>Forgets who has which prompt, because the workers' caches are empty again.</summary>
    public void Forget()
    {
        lock (gate)
            holders.Clear();
    }
}
