using SimpleR1.Inference;

namespace SimpleR1.Cluster.Trainer.Rollouts;

/// <summary>Requests that go to a worker together. A worker that takes over from a lost one has several shares of a batch.</summary>
internal sealed record RolloutShare(int Id, int Worker, List<GenerationRequest> Requests)
{
    /// <summary>Samples of the share that have come.</summary>
    public int Accepted;

    /// <summary>How many of a sample's tokens it had before the share.</summary>
    public int TokensBefore(Completion completion)
    {
        var request = Requests.Find(r => r.Id == completion.RequestId);
        var part = request?.PartialSamples?.FirstOrDefault(p => p.Index == completion.SampleIndex);
        return part?.Tokens.Length ?? 0;
    }
}

/// <summary>
/// The samples of a batch that are done, and the shares that have the rest. This is the one place that decides that no sample is
/// lost and none is counted twice. Pure bookkeeping; safe to use from several threads.
/// </summary>
internal sealed class RolloutLedger
{
    /// <summary>A request that was on this many workers when their engines failed probably caused the failures.</summary>
    public const int MaxLosses = 3;

    /// <summary>
    /// The same for processes that were killed, for lack of memory or by hand (for example by an operator or a scheduler): as many
    /// as this in a row, without a finished sample of the batch in between.
    /// </summary>
    public const int MaxDeaths = 10;

    private readonly Lock gate = new();
    private readonly List<Entry> entries = [];
    private readonly Dictionary<string, Entry> byId = [];
    private readonly List<int> holders = []; // the worker of each share
    private int missing,
        closed;

    /// <summary>A request and what is known of its samples.</summary>
    private sealed class Entry(GenerationRequest request)
    {
        public readonly GenerationRequest Request = request;

        /// <summary>The missing samples by index, with the tokens they had at the start.</summary>
        public readonly SortedDictionary<int, PartialSample> Open = new(
            (
                request.PartialSamples
                ?? [.. Enumerable.Range(0, request.Sampling.Samples).Select(i => new PartialSample(i))]
            ).ToDictionary(p => p.Index)
        );
        public readonly HashSet<int> Done = [];

        /// <summary>Tokens that have come since the start, of requests that stream.</summary>
        public readonly Dictionary<int, List<TokenEvent>> Streamed = [];
        public int Losses,
            Deaths,
            DeathAt;
        public int? Share,
            Hedge;
        public int Missing => Open.Count;

        public bool IsIn(RolloutShare share) => Share == share.Id || Hedge == share.Id;

        /// <summary>Most tokens that the missing samples may still take.</summary>
        public long Cost => Missing == 0 ? 0 : Request.PromptTokens.Length + (long)Missing * Request.Sampling.MaxTokens;

        /// <summary>A request for the missing samples.</summary>
        public GenerationRequest Remaining =>
            Done.Count == 0 && Streamed.Count == 0
                ? Request
                : Request with
                {
                    PartialSamples = [.. Open.Values.Select(WithStreamed)],
                };

        /// <summary>A sample with the tokens that have come since.</summary>
        public PartialSample WithStreamed(PartialSample sample)
        {
            if (!Streamed.TryGetValue(sample.Index, out var events))
                return sample;

            bool hasTop = Request.Sampling.TopLogProbs > 0;
            return sample with
            {
                Tokens = [.. sample.Tokens, .. events.Select(e => e.Token)],
                LogProbs = [.. sample.LogProbs, .. events.Select(e => e.LogProb)],
                WeightVersions = [.. sample.WeightVersions, .. events.Select(e => e.WeightVersion)],
                TopLogProbs = hasTop ? [.. sample.TopLogProbs ?? [], .. events.Select(e => e.Top!)] : null,
            };
        }
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

    /// <summary>The missing samples and their first requests, for an error.</summary>
    public string DescribeMissing()
    {
        lock (gate)
        {
            var open = entries.Where(e => e.Missing > 0).ToArray();
            string ids = string.Join(", ", open.Take(5).Select(e => e.Request.Id)) + (open.Length > 5 ? ", …" : "");
            return $"{missing} of {open.Length} requests ({ids})";
        }
    }

    /// <summary>Samples of the share that are still missing.</summary>
    public int MissingSamples(RolloutShare share)
    {
        lock (gate)
            return entries.Where(e => e.IsIn(share)).Sum(e => e.Missing);
    }

    /// <summary>Most tokens that the share's unfinished requests may still take.</summary>
    public long OutstandingTokens(RolloutShare share)
    {
        lock (gate)
            return entries.Where(e => e.IsIn(share)).Sum(e => e.Cost);
    }

    /// <summary>Samples that no worker has.</summary>
    public int UnassignedSamples
    {
        get
        {
            lock (gate)
                return entries.Sum(e => e.Share is null ? e.Missing : 0);
        }
    }

    /// <summary>
    /// Assigns waiting requests, in order, to the workers that the router chooses, while these have room. Equal inputs give equal
    /// shares.
    /// </summary>
    /// <param name="loads">Each worker's load, other batches included.</param>
    /// <returns>A share for each worker that got requests.</returns>
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

                var share = ShareOf(shares, chosen.Worker);
                share.Requests.Add(entry.Remaining);
                entry.Share = share.Id;
            }

        return shares.Values;
    }

    /// <summary>Has an idle worker repeat the oldest requests that others have not finished; each request once.</summary>
    /// <param name="window">Most samples that the worker may get.</param>
    /// <returns>Null when there is no such request.</returns>
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
                var share = ShareOf(shares, idle.Worker);
                share.Requests.Add(entry.Remaining);
                entry.Hedge = share.Id;
            }

        return shares.Values.FirstOrDefault();
    }

    private RolloutShare ShareOf(SortedDictionary<int, RolloutShare> shares, int worker)
    {
        if (!shares.TryGetValue(worker, out var share))
        {
            shares.Add(worker, share = new(holders.Count, worker, []));
            holders.Add(worker);
        }

        return share;
    }

    /// <summary>Records a token or the end of a sample.</summary>
    /// <returns>False when the sample is done already, because two workers had it.</returns>
    /// <exception cref="InvalidOperationException">No request asks for the sample.</exception>
    public bool Accept(TokenEvent e)
    {
        lock (gate)
        {
            if (
                !byId.TryGetValue(e.RequestId, out var entry)
                || !entry.Done.Contains(e.SampleIndex) && !entry.Open.ContainsKey(e.SampleIndex)
            )
                throw new InvalidOperationException(
                    $"A worker returned sample {e.SampleIndex} of request '{e.RequestId}', which no request asks for"
                );
            if (entry.Done.Contains(e.SampleIndex))
                return false;

            if (e.Completion is not null)
                Close(entry, e.SampleIndex);
            else if (entry.Streamed.TryGetValue(e.SampleIndex, out var events))
                events.Add(e);
            else
                entry.Streamed.Add(e.SampleIndex, [e]);

            return true;
        }
    }

    private void Close(Entry entry, int sample)
    {
        entry.Open.Remove(sample);
        entry.Done.Add(sample);
        entry.Streamed.Remove(sample);
        missing--;
        closed++;
    }

    /// <summary>Ends the samples that no worker has: as aborted, with the tokens that have come, without their text.</summary>
    public IReadOnlyList<Completion> CancelUnassigned()
    {
        lock (gate)
        {
            var ended = new List<Completion>();
            foreach (var entry in entries.Where(e => e.Missing > 0 && e.Share is null))
            foreach (var sample in entry.Open.Values.Select(entry.WithStreamed).ToArray())
            {
                ended.Add(Aborted(entry.Request.Id, sample));
                Close(entry, sample.Index);
            }

            return ended;
        }
    }

    private static Completion Aborted(string request, PartialSample sample) =>
        new()
        {
            RequestId = request,
            SampleIndex = sample.Index,
            Tokens = sample.Tokens,
            LogProbs = sample.LogProbs,
            WeightVersions = sample.WeightVersions,
            TopLogProbs = sample.TopLogProbs,
            FinishReason = FinishReason.Aborted,
            Text = "",
        };

    /// <summary>Takes back the unfinished requests of a share, to be assigned again where no other worker has them.</summary>
    /// <param name="reason">Why the worker was lost, for the error; null where the requests can't be to blame.</param>
    /// <param name="killed">The worker's process died, and its engine had not failed.</param>
    /// <returns>How many requests are to be assigned again.</returns>
    /// <exception cref="WorkersLostException">One of them was on too many lost workers.</exception>
    public int Release(RolloutShare share, string? reason, bool killed = false)
    {
        lock (gate)
        {
            int released = 0;
            foreach (var entry in entries.Where(e => e.IsIn(share) && e.Missing > 0))
            {
                if (entry.Share == share.Id)
                    entry.Share = entry.Hedge;
                entry.Hedge = null;
                if (entry.Share is null)
                    released++;
                if (reason is not null)
                    Blame(entry, reason, killed);
            }

            return released;
        }
    }

    /// <summary>Counts a lost worker against a request.</summary>
    private void Blame(Entry entry, string reason, bool killed)
    {
        if (killed)
        {
            entry.Deaths = entry.DeathAt == closed ? entry.Deaths + 1 : 1;
            entry.DeathAt = closed;
        }
        else
            entry.Losses++;

        if (entry.Losses >= MaxLosses || entry.Deaths >= MaxDeaths)
            throw new WorkersLostException(
                $"Request '{entry.Request.Id}' ({entry.Request.PromptTokens.Length} prompt tokens) was running on "
                    + $"{(killed ? entry.Deaths : entry.Losses)} workers when they were lost; it is not tried again. "
                    + $"The last was lost because {reason}"
            );
    }
}
