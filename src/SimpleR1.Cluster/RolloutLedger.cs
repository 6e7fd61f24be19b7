using SimpleR1.Inference;

namespace SimpleR1.Cluster;

/// <summary>Requests that go to a worker together. A worker may have several shares of a batch, when it takes over from a lost one.</summary>
internal sealed record RolloutShare(int Id, int Worker, List<GenerationRequest> Requests);

/// <summary>
/// Which samples of a batch are done, and which share has the rest: the one place that decides that no sample is lost and none is
/// counted twice. Pure bookkeeping; safe to use from several threads.
/// </summary>
internal sealed class RolloutLedger
{
    /// <summary>A request that was on this many workers when they were lost is likely what they died of.</summary>
    public const int MaxLosses = 3;

    private readonly Lock gate = new();
    private readonly List<Entry> entries = [];
    private readonly Dictionary<string, Entry> byId = [];
    private int missing, shareCount;

    private sealed class Entry(GenerationRequest request)
    {
        public readonly GenerationRequest Request = request;
        public readonly bool[] Done = new bool[request.Sampling.Samples];
        public int Missing = request.Sampling.Samples, Losses;
        public int? Share;
        public long Cost => Missing == 0 ? 0 : Request.PromptTokens.Length + (long)Missing * Request.Sampling.MaxTokens;
    }

    /// <exception cref="ArgumentException">Two requests have the same id, or one asks for no samples.</exception>
    public RolloutLedger(IReadOnlyList<GenerationRequest> requests)
    {
        foreach (var request in requests)
        {
            if (request.Sampling.Samples < 1) throw new ArgumentException($"Request '{request.Id}' asks for {request.Sampling.Samples} samples; ask for at least 1");
            var entry = new Entry(request);
            if (!byId.TryAdd(request.Id, entry)) throw new ArgumentException($"Two requests of a batch have the id '{request.Id}'; ids must differ");
            entries.Add(entry);
            missing += request.Sampling.Samples;
        }
    }

    public bool Complete { get { lock (gate) return missing == 0; } }

    public bool HasUnassigned { get { lock (gate) return entries.Exists(e => e.Missing > 0 && e.Share is null); } }

    /// <summary>Samples of the share that are still to come.</summary>
    public int Owed(RolloutShare share) { lock (gate) return entries.Where(e => e.Share == share.Id).Sum(e => e.Missing); }

    /// <summary>Most tokens that the share's unfinished requests may still take.</summary>
    public long Outstanding(RolloutShare share) { lock (gate) return entries.Where(e => e.Share == share.Id).Sum(e => e.Cost); }

    /// <summary>
    /// Gives every unassigned request, in order, to the worker with the fewest outstanding tokens at that point (the first such one),
    /// so equal inputs give equal shares.
    /// </summary>
    /// <param name="loads">Each worker's outstanding tokens, other batches included.</param>
    /// <returns>By worker.</returns>
    public IReadOnlyCollection<RolloutShare> Assign(IReadOnlyList<(int Worker, long Load)> loads)
    {
        var shares = new SortedDictionary<int, RolloutShare>();
        var load = loads.ToArray();
        lock (gate)
            foreach (var entry in entries)
            {
                if (entry.Missing == 0 || entry.Share is not null) continue;
                int least = 0;
                for (int i = 1; i < load.Length; i++)
                    if (load[i].Load < load[least].Load) least = i;
                load[least].Load += entry.Cost;
                int worker = load[least].Worker;
                if (!shares.TryGetValue(worker, out var share)) shares.Add(worker, share = new(shareCount++, worker, []));
                share.Requests.Add(entry.Request);
                entry.Share = share.Id;
            }
        return shares.Values;
    }

    /// <summary>Records a sample; false when it is known already (a request that was sent again repeats what had arrived before).</summary>
    /// <exception cref="InvalidOperationException">Nobody asked for it.</exception>
    public bool Accept(Completion completion)
    {
        lock (gate)
        {
            if (!byId.TryGetValue(completion.RequestId, out var entry) || (uint)completion.SampleIndex >= (uint)entry.Done.Length)
                throw new InvalidOperationException($"A worker returned sample {completion.SampleIndex} of request '{completion.RequestId}', which nobody asked for");
            if (entry.Done[completion.SampleIndex]) return false;
            entry.Done[completion.SampleIndex] = true;
            entry.Missing--;
            missing--;
            return true;
        }
    }

    /// <summary>Takes back what a lost worker has not finished of a share, to be assigned again.</summary>
    /// <param name="reason">Why the worker was lost, for the error.</param>
    /// <returns>How many.</returns>
    /// <exception cref="InvalidOperationException">One of them has outlived too many workers.</exception>
    public int Release(RolloutShare share, string reason)
    {
        lock (gate)
        {
            int released = 0;
            foreach (var entry in entries.Where(e => e.Share == share.Id && e.Missing > 0))
            {
                entry.Share = null;
                released++;
                if (++entry.Losses == MaxLosses)
                    throw new WorkersLostException($"Request '{entry.Request.Id}' ({entry.Request.PromptTokens.Length} prompt tokens) was running on {MaxLosses} workers "
                        + $"when they were lost; it is not tried again. The last was lost because {reason}");
            }
            return released;
        }
    }
}
