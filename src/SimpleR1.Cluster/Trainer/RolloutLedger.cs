using SimpleR1.Inference;

namespace SimpleR1.Cluster.Trainer;

/// <summary>Requests that go to a worker together. A worker may have several shares of a batch, when it takes over from a lost one.</summary>
internal sealed record RolloutShare(int Id, int Worker, List<GenerationRequest> Requests)
{
    /// <summary>Samples that came of it.</summary>
    public int Accepted;

    /// <summary>Tokens of a sample that were there before.</summary>
    public int Had(Completion c) =>
        Requests
            .Find(r => r.Id == c.RequestId)
            ?.PartialSamples?.FirstOrDefault(p => p.Index == c.SampleIndex)
            ?.Tokens.Length
        ?? 0;
}

/// <summary>
/// Which samples of a batch are done, and which share has the rest: the one place that decides that no sample is lost and none is
/// counted twice. Pure bookkeeping; safe to use from several threads.
/// </summary>
internal sealed class RolloutLedger
{
    /// <summary>A request that was on this many workers when their engines failed is likely what they failed of.</summary>
    public const int MaxLosses = 3;

    /// <summary>The same for processes that were killed, perhaps for want of memory, perhaps by somebody who kills workers: as many as this in a row, without a sample of the batch finished in between.</summary>
    public const int MaxDeaths = 10;

    private readonly Lock gate = new();
    private readonly List<Entry> entries = [];
    private readonly Dictionary<string, Entry> byId = [];
    private readonly List<int> holders = []; // the worker of each share
    private int missing,
        closed;

    private sealed class Entry(GenerationRequest request)
    {
        public readonly GenerationRequest Request = request;

        /// <summary>By index, the samples that are missing, with what was known of them at the start.</summary>
        public readonly SortedDictionary<int, PartialSample> Open = new(
            (
                request.PartialSamples
                ?? [.. Enumerable.Range(0, request.Sampling.Samples).Select(i => new PartialSample(i))]
            ).ToDictionary(p => p.Index)
        );
        public readonly HashSet<int> Done = [];

        /// <summary>Tokens that have come since, of requests that stream.</summary>
        public readonly Dictionary<int, List<TokenEvent>> Told = [];
        public int Losses,
            Deaths,
            DeathAt;
        public int? Share,
            Hedge;
        public int Missing => Open.Count;

        public bool In(int share) => Share == share || Hedge == share;

        public long Cost => Missing == 0 ? 0 : Request.PromptTokens.Length + (long)Missing * Request.Sampling.MaxTokens;

        /// <summary>What is left to ask for.</summary>
        public GenerationRequest Remaining =>
            Done.Count == 0 && Told.Count == 0
                ? Request
                : Request with
                {
                    PartialSamples = [.. Open.Values.Select(WithTold)],
                };

        public PartialSample WithTold(PartialSample part) =>
            !Told.TryGetValue(part.Index, out var told)
                ? part
                : part with
                {
                    Tokens = [.. part.Tokens, .. told.Select(e => e.Token)],
                    LogProbs = [.. part.LogProbs, .. told.Select(e => e.LogProb)],
                    WeightVersions = [.. part.WeightVersions, .. told.Select(e => e.WeightVersion)],
                    TopLogProbs =
                        Request.Sampling.TopLogProbs > 0
                            ? [.. part.TopLogProbs ?? [], .. told.Select(e => e.Top!)]
                            : null,
                };
    }

    /// <exception cref="ArgumentException">Two requests have the same id, or one asks for no samples.</exception>
    public RolloutLedger(IReadOnlyList<GenerationRequest> requests)
    {
        foreach (var request in requests)
        {
            if (request.Count < 1)
                throw new ArgumentException(
                    $"Request '{request.Id}' asks for {request.Count} samples; ask for at least 1"
                );
            var entry = new Entry(request);
            if (!byId.TryAdd(request.Id, entry))
                throw new ArgumentException($"Two requests of a batch have the id '{request.Id}'; ids must differ");
            entries.Add(entry);
            missing += request.Count;
        }
    }

    public bool Complete
    {
        get
        {
            lock (gate)
                return missing == 0;
        }
    }

    public bool HasUnassigned
    {
        get
        {
            lock (gate)
                return entries.Exists(e => e.Missing > 0 && e.Share is null);
        }
    }

    /// <summary>What is not done, for an error.</summary>
    public string Missing()
    {
        lock (gate)
        {
            var open = entries.Where(e => e.Missing > 0).ToArray();
            return $"{missing} of {open.Length} requests ({string.Join(", ", open.Take(5).Select(e => e.Request.Id))}{(open.Length > 5 ? ", …" : "")})";
        }
    }

    /// <summary>Samples of the share that are still to come.</summary>
    public int Owed(RolloutShare share)
    {
        lock (gate)
            return entries.Where(e => e.In(share.Id)).Sum(e => e.Missing);
    }

    /// <summary>Most tokens that the share's unfinished requests may still take.</summary>
    public long Outstanding(RolloutShare share)
    {
        lock (gate)
            return entries.Where(e => e.In(share.Id)).Sum(e => e.Cost);
    }

    /// <summary>Samples that no worker has been given yet.</summary>
    public int Unassigned
    {
        get
        {
            lock (gate)
                return entries.Sum(e => e.Share is null ? e.Missing : 0);
        }
    }

    /// <summary>Gives unassigned requests, in order, to the workers that the router chooses, while they have room; equal inputs give equal shares.</summary>
    /// <param name="loads">Each worker's load, other batches included.</param>
    /// <returns>By worker.</returns>
    public IReadOnlyCollection<RolloutShare> Assign(Router router, IReadOnlyList<WorkerLoad> loads)
    {
        var shares = new SortedDictionary<int, RolloutShare>();
        lock (gate)
            foreach (var entry in entries)
            {
                if (entry.Missing == 0 || entry.Share is not null)
                    continue;
                if (router.Choose(loads, entry.Request.PromptTokens, entry.Cost, entry.Missing) is not { } chosen)
                    break;
                var share = Into(shares, chosen.Worker);
                share.Requests.Add(entry.Remaining);
                entry.Share = share.Id;
            }
        return shares.Values;
    }

    /// <summary>Gives a worker with nothing to do the oldest requests that others have not finished, for the second time; once each.</summary>
    /// <returns>Null when there is none.</returns>
    public RolloutShare? Hedge(WorkerLoad idle, int window)
    {
        var shares = new SortedDictionary<int, RolloutShare>();
        lock (gate)
            foreach (var entry in entries)
            {
                if (
                    entry.Missing == 0
                    || entry.Share is null
                    || entry.Hedge is not null
                    || holders[entry.Share.Value] == idle.Worker
                )
                    continue;
                if (idle.Samples > 0 && idle.Samples + entry.Missing > window)
                    break;
                idle.Samples += entry.Missing;
                var share = Into(shares, idle.Worker);
                share.Requests.Add(entry.Remaining);
                entry.Hedge = share.Id;
            }
        return shares.Values.FirstOrDefault();
    }

    private RolloutShare Into(SortedDictionary<int, RolloutShare> shares, int worker)
    {
        if (!shares.TryGetValue(worker, out var share))
        {
            shares.Add(worker, share = new(holders.Count, worker, []));
            holders.Add(worker);
        }
        return share;
    }

    /// <summary>Records a token or the end of a sample; false when the sample is done already (two workers had it).</summary>
    /// <exception cref="InvalidOperationException">Nobody asked for it.</exception>
    public bool Accept(TokenEvent e)
    {
        lock (gate)
        {
            if (
                !byId.TryGetValue(e.RequestId, out var entry)
                || !entry.Done.Contains(e.SampleIndex) && !entry.Open.ContainsKey(e.SampleIndex)
            )
                throw new InvalidOperationException(
                    $"A worker returned sample {e.SampleIndex} of request '{e.RequestId}', which nobody asked for"
                );
            if (entry.Done.Contains(e.SampleIndex))
                return false;
            if (e.Completion is not null)
                Close(entry, e.SampleIndex);
            else if (entry.Told.TryGetValue(e.SampleIndex, out var told))
                told.Add(e);
            else
                entry.Told.Add(e.SampleIndex, [e]);
            return true;
        }
    }

    private void Close(Entry entry, int sample)
    {
        entry.Open.Remove(sample);
        entry.Done.Add(sample);
        entry.Told.Remove(sample);
        missing--;
        closed++;
    }

    /// <summary>Ends what no worker has: samples as aborted, with the tokens that are known, without their text.</summary>
    public IReadOnlyList<Completion> BreakOff()
    {
        lock (gate)
        {
            var ended = new List<Completion>();
            foreach (var entry in entries.Where(e => e.Missing > 0 && e.Share is null))
            foreach (var part in entry.Open.Values.Select(entry.WithTold).ToArray())
            {
                ended.Add(
                    new()
                    {
                        RequestId = entry.Request.Id,
                        SampleIndex = part.Index,
                        Tokens = part.Tokens,
                        LogProbs = part.LogProbs,
                        WeightVersions = part.WeightVersions,
                        TopLogProbs = part.TopLogProbs,
                        FinishReason = FinishReason.Aborted,
                        Text = "",
                    }
                );
                Close(entry, part.Index);
            }
            return ended;
        }
    }

    /// <summary>Takes back what a worker has not finished of a share, to be assigned again where nobody else has it.</summary>
    /// <param name="reason">Why the worker was lost, for the error; null where it can't be the requests' fault.</param>
    /// <param name="killed">Its process died, and its engine had not failed.</param>
    /// <returns>How many are to be assigned again.</returns>
    /// <exception cref="WorkersLostException">One of them has outlived too many workers.</exception>
    public int Release(RolloutShare share, string? reason, bool killed = false)
    {
        lock (gate)
        {
            int released = 0;
            foreach (var entry in entries.Where(e => e.In(share.Id) && e.Missing > 0))
            {
                if (entry.Share == share.Id)
                    entry.Share = entry.Hedge;
                entry.Hedge = null;
                if (entry.Share is null)
                    released++;
                if (reason is null)
                    continue;
                if (!killed)
                    entry.Losses++;
                else
                    (entry.Deaths, entry.DeathAt) = (entry.DeathAt == closed ? entry.Deaths + 1 : 1, closed);
                if (entry.Losses >= MaxLosses || entry.Deaths >= MaxDeaths)
                    throw new WorkersLostException(
                        $"Request '{entry.Request.Id}' ({entry.Request.PromptTokens.Length} prompt tokens) was running on {(killed ? entry.Deaths : entry.Losses)} workers "
                            + $"when they were lost; it is not tried again. The last was lost because {reason}"
                    );
            }
            return released;
        }
    }
}
