namespace SimpleR1.Inference;

/// <summary>
/// Decides which sequences compute how many tokens in a step: those that decode first, then prompts in chunks, then new ones, under a
/// budget of tokens. When blocks run out, the last in order gives up its own and is computed again later (preemption by recomputation).
/// </summary>
internal sealed class Scheduler(BlockPool pool, int maxBatchedTokens, int maxSequences)
{
    private readonly SortedSet<Sequence> waiting = new(Sequence.Order),
        running = new(Sequence.Order);
    private readonly List<(Sequence Sequence, int Count)> batch = [];
    private readonly List<Sequence> order = [];
    private readonly Stack<int> slots = new(Enumerable.Range(0, maxSequences).Reverse());
    private int budget;

    public IReadOnlyCollection<Sequence> Waiting => waiting;
    public IReadOnlyCollection<Sequence> Running => running;
    public long Preemptions { get; private set; }
    public long PrefixQueriedTokens { get; private set; }
    public long PrefixHitTokens { get; private set; }

    /// <summary>Set to begin no sequence that has not begun before: those that have are finished.</summary>
    public bool OnlyStarted { get; set; }
    public bool AnyStarted => running.Count > 0 || waiting.Any(s => s.Admissions > 0);

    public void Add(Sequence sequence) => waiting.Add(sequence);

    /// <summary>Finished or aborted: its blocks are free, and stay findable.</summary>
    public void Remove(Sequence sequence)
    {
        if (!running.Remove(sequence))
            waiting.Remove(sequence);
        Release(sequence);
    }

    /// <summary>All running sequences lose their keys and values and wait to be computed again.</summary>
    public void PreemptAll()
    {
        while (running.Max is { } last)
            Preempt(last);
    }

    /// <summary>The next step: each sequence with the number of tokens to compute. The list is reused by the next call.</summary>
    public IReadOnlyList<(Sequence Sequence, int Count)> Schedule()
    {
        batch.Clear();
        budget = maxBatchedTokens;
        order.Clear();
        order.AddRange(running);
        long preemptedBefore = Preemptions;
        foreach (var sequence in order)
            if (sequence.Decoding && !sequence.Exhausted)
                Continue(sequence);
        foreach (var sequence in order)
            if (!sequence.Decoding && !sequence.Exhausted)
                Continue(sequence);
        // Only now is it certain that these run, and so that their blocks will hold what they are registered for.
        foreach (var (sequence, count) in batch)
            Register(sequence, sequence.Computed + count);
        if (Preemptions == preemptedBefore)
            while (
                budget > 0
                && running.Count < maxSequences
                && (OnlyStarted ? waiting.FirstOrDefault(s => s.Admissions > 0) : waiting.Min) is { } first
                && TryAdmit(first)
            ) { }
        return batch;
    }

    private void Continue(Sequence sequence)
    {
        if (budget == 0 || sequence.Slot < 0)
            return; // it may have been preempted a moment ago
        int count = Math.Min(sequence.Pending, budget);
        while (BlocksFor(sequence.Computed + count) - sequence.Blocks.Count > pool.Free)
        {
            var last = running.Max!;
            Preempt(last);
            if (last == sequence)
                return;
        }
        Run(sequence, count);
    }

    private void Preempt(Sequence sequence)
    {
        running.Remove(sequence);
        waiting.Add(sequence);
        Release(sequence);
        Preemptions++;
        int scheduled = batch.FindIndex(b => b.Sequence == sequence);
        if (scheduled < 0)
            return;
        budget += batch[scheduled].Count;
        batch.RemoveAt(scheduled);
    }

    /// <summary>Starts a waiting sequence behind what the prefix cache has of it, if there are blocks for all of its tokens.</summary>
    private bool TryAdmit(Sequence sequence)
    {
        if (sequence.OnTheWay > 0)
            return false; // preempted while its token was being drawn: what is to be computed is not known yet
        int size = pool.BlockSize,
            mostHits = (sequence.Length - 1) / size,
            fromFree = 0; // the last token is always computed: its logits are needed
        long prefix = pool.Root;
        while (
            sequence.Blocks.Count < mostHits
            && pool.TryFind(
                prefix,
                sequence.Tokens.Slice(sequence.Blocks.Count * size, size),
                out int block,
                out long next
            )
        )
        {
            if (pool.IsFree(block))
                fromFree++;
            sequence.Blocks.Add(block);
            prefix = next;
        }
        int hits = sequence.Blocks.Count;
        if (BlocksFor(sequence.Length) - hits > pool.Free - fromFree)
        {
            sequence.Blocks.Clear();
            return false;
        }
        foreach (int block in sequence.Blocks)
            pool.Acquire(block);
        (sequence.Computed, sequence.Registered, sequence.Prefix) = (hits * size, hits, prefix);
        if (sequence.CachedPromptTokens < 0)
            sequence.CachedPromptTokens = hits * size;
        PrefixQueriedTokens += sequence.Length;
        PrefixHitTokens += hits * size;
        waiting.Remove(sequence);
        running.Add(sequence);
        (sequence.Slot, sequence.Admissions) = (slots.Pop(), sequence.Admissions + 1);
        int count = Math.Min(sequence.Pending, budget);
        Run(sequence, count);
        Register(sequence, sequence.Computed + count);
        return true;
    }

    private void Run(Sequence sequence, int count)
    {
        while (sequence.Blocks.Count < BlocksFor(sequence.Computed + count))
            sequence.Blocks.Add(pool.Allocate());
        batch.Add((sequence, count));
        budget -= count;
    }

    /// <summary>
    /// Blocks are findable from the step on that fills them: a step writes all its keys and values of a layer before any attention of that
    /// layer reads, so that sequences admitted together share a prompt that is computed in the same step. A block whose last token is still being
    /// drawn has no name yet; it gets one in the next step.
    /// </summary>
    private void Register(Sequence sequence, int tokens)
    {
        tokens = Math.Min(tokens, sequence.Known);
        for (int size = pool.BlockSize; (sequence.Registered + 1) * size <= tokens; sequence.Registered++)
            sequence.Prefix = pool.Register(
                sequence.Blocks[sequence.Registered],
                sequence.Prefix,
                sequence.Tokens.Slice(sequence.Registered * size, size)
            );
    }

    private void Release(Sequence sequence)
    {
        if (sequence.Slot >= 0)
            slots.Push(sequence.Slot);
        sequence.Slot = -1;
        for (int i = sequence.Blocks.Count - 1; i >= 0; i--)
            pool.Release(sequence.Blocks[i]); // ends first: a prefix outlives what follows it
        sequence.Blocks.Clear();
        sequence.Computed = sequence.Registered = 0;
    }

    private int BlocksFor(int tokens) => (tokens + pool.BlockSize - 1) / pool.BlockSize;
}
