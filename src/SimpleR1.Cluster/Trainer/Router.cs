using System.IO.Hashing;
using System.Runtime.InteropServices;

namespace SimpleR1.Cluster.Trainer;

/// <summary>A worker's load while requests are given out; grows as it is given some.</summary>
internal sealed class WorkerLoad(int worker, long tokens, int samples)
{
    public int Worker => worker;

    /// <summary>Most tokens that its unfinished requests may still take.</summary>
    public long Tokens { get; set; } = tokens;
    public int Samples { get; set; } = samples;
}

/// <summary>
/// Which worker gets a request: the one that has the prompt's keys and values cached, unless it is behind; else the one with the fewest outstanding tokens.
/// None while all have their queues full: the request waits until one has room, and goes to that one. Safe to use from several threads.
/// </summary>
/// <param name="window">Most samples that a worker is given before it has finished others.</param>
internal sealed class Router(int window)
{
    /// <summary>How many requests like this one the worker with the prompt may be ahead of the idlest: computing a prompt again costs less than waiting for more.</summary>
    private const int Behind = 16;
    private const int MaxPrompts = 1 << 16;

    private readonly Lock gate = new();
    private readonly Dictionary<ulong, int> holders = []; // prompt → worker

    /// <summary>Requests whose prompt a worker had, and how many of them went to it.</summary>
    public (long Known, long Hits) Affinity { get; private set; }

    /// <param name="cost">Most tokens the request may take.</param>
    /// <returns>The worker, its load grown by the request; null when none has room.</returns>
    public WorkerLoad? Choose(IReadOnlyList<WorkerLoad> loads, ReadOnlySpan<int> prompt, long cost, int samples)
    {
        ulong key = XxHash3.HashToUInt64(MemoryMarshal.AsBytes(prompt));
        lock (gate)
        {
            WorkerLoad? least = null,
                holder = null;
            bool known = holders.TryGetValue(key, out int worker);
            foreach (var load in loads)
            {
                if (load.Samples > 0 && load.Samples + samples > window)
                    continue;
                if (least is null || load.Tokens < least.Tokens)
                    least = load;
                if (known && load.Worker == worker)
                    holder = load;
            }
            if (least is null)
                return null;
            bool hit = holder is not null && holder.Tokens - least.Tokens <= Behind * cost;
            if (known)
                Affinity = (Affinity.Known + 1, Affinity.Hits + (hit ? 1 : 0));
            var chosen = hit ? holder! : least;
            if (holders.Count >= MaxPrompts)
                holders.Clear();
            holders[key] = chosen.Worker;
            chosen.Tokens += cost;
            chosen.Samples += samples;
            return chosen;
        }
    }

    /// <summary>The workers' caches are empty again.</summary>
    public void Forget()
    {
        lock (gate)
            holders.Clear();
    }
}
