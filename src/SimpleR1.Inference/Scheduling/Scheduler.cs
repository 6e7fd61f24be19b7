namespace SimpleR1.Inference.Scheduling;

/// <summary>
/// Decides which sequences compute how many tokens in a step: those that decode first, then prompts in chunks, then new
/// ones, under a budget of tokens. When blocks run out, the last sequence in order gives up its own and is computed
/// again later (preemption by recomputation).
/// </summary>
internal sealed class Scheduler(BlockPool pool, int maxBatchedTokens, int maxSequences)
{
    private readonly SortedSet<Sequence> waiting = new(Sequence.Order);
    private readonly SortedSet<Sequence> running = new(Sequence.Order);
    private readonly List<(Sequence Sequence, int Count)> batch = [];
    private readonly List<Sequence> order = [];
    private readonly Stack<int> slots = new(Enumerable.Range(0, maxSequences).Reverse());
    private int budget;

    public IReadOnlyCollection<Sequence> Waiting => waiting;
    public IReadOnlyCollection<Sequence> Running => running;

    /// <inheritdoc cref="EngineStatistics.Preemptions"/>
    public long Preemptions { get; private set; }

    /// <inheritdoc cref="EngineStatistics.RecomputedTokens"/>
    public long RecomputedTokens { get; private set; }

    /// <inheritdoc cref="EngineStatistics.PrefixQueriedTokens"/>
    public long PrefixQueriedTokens { get; private set; }

    /// <inheritdoc cref="EngineStatistics.PrefixHitTokens"/>
    public long PrefixHitTokens { get; private set; }

    /// <summary>Set to start no new sequence: only those that have started before are finished.</summary>
    public bool OnlyStarted { get; set; }
    public bool AnyStarted => running.Count > 0 || waiting.Any(s => s.Admissions > 0);

    public void Add(Sequence sequence) => waiting.Add(sequence);

    /// <summary>Takes out a finished or aborted sequence: its blocks are free, and stay findable.</summary>
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

    /// <summary>
    /// Plans the next step: each sequence with the number of tokens to compute. The list is reused by the next call.
    /// </summary>
    public IReadOnlyList<(Sequence Sequence, int Count)> Schedule()
    {
        batch.Clear();
        budget = maxBatchedTokens;
        order.Clear();
        order.AddRange(running);
        long preemptions = Preemptions;

        // Sequences that decode, then prompts that have begun.
        foreach (var sequence in order)
            if (sequence.Decoding && !sequence.Exhausted)
                Continue(sequence);
        foreach (var sequence in order)
            if (!sequence.Decoding && !sequence.Exhausted)
                Continue(sequence);

        // Only now is it certain that these run, and so that their blocks will hold what they are registered for.
        foreach (var (sequence, count) in batch)
            Register(sequence, sequence.Computed + count);

        // New sequences, unless blocks have just run out.
        if (Preemptions == preemptions)
            while (budget > 0 && running.Count < maxSequences && NextWaiting() is { } first && TryAdmit(first)) { }

        return batch;
    }

    /// <summary>Checks that sequences, block tables and block pool agree.</summary>
    /// <param name="sequences">How many sequences there are.</param>
    /// <exception cref="InvalidOperationException">An invariant is broken; the message names it.</exception>
    public void CheckInvariants(int sequences)
    {
        pool.CheckInvariants(running.Select(s => s.Blocks));
        int withBlocks = waiting.Count(s => s.Blocks.Count > 0);
        if (running.Count + waiting.Count != sequences || withBlocks > 0)
            throw new InvalidOperationException(
                $"engine: {sequences} sequences are active, {running.Count} run and {waiting.Count} wait, "
                    + $"{withBlocks} of these with blocks"
            );
    }

    /// <summary>Checks that no sequence is left, and that all blocks are free.</summary>
    /// <exception cref="InvalidOperationException">Something is left; the message names it.</exception>
    public void CheckIdle()
    {
        int held = pool.Count - pool.Free;
        if (held > 0 || running.Count + waiting.Count > 0)
            throw new InvalidOperationException(
                $"engine: no request is active, but {held} blocks are held, {running.Count} sequences run and "
                    + $"{waiting.Count} wait"
            );
    }

    private Sequence? NextWaiting() => OnlyStarted ? waiting.FirstOrDefault(s => s.Admissions > 0) : waiting.Min;

    private void Continue(Sequence sequence)
    {
        bool preempted = sequence.Slot < 0; // by a sequence before it in this step
        if (budget == 0 || preempted)
            return;

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
        sequence.Lost = Math.Max(sequence.Lost, sequence.Computed);
        Release(sequence);
        Preemptions++;

        int scheduled = batch.FindIndex(b => b.Sequence == sequence);
        if (scheduled < 0)
            return;
        budget += batch[scheduled].Count;
        batch.RemoveAt(scheduled);
    }

    /// <summary>
    /// Starts a waiting sequence after what the prefix cache has of it, if there are blocks for all of its tokens.
    /// </summary>
    private bool TryAdmit(Sequence sequence)
    {
        // Preempted while its token was being drawn: what is to be computed is not known yet.
        if (sequence.InFlight > 0)
            return false;

        // Take the cached blocks, if the others fit.
        int freeHits = FindCached(sequence, out long prefix);
        int hits = sequence.Blocks.Count;
        if (BlocksFor(sequence.Length) - hits > pool.Free - freeHits)
        {
            sequence.Blocks.Clear();
            return false;
        }

        foreach (int block in sequence.Blocks)
            pool.Acquire(block);
        sequence.Registered = hits;
        sequence.Prefix = prefix;
        sequence.Computed = hits * pool.BlockSize;
        if (sequence.CachedPromptTokens < 0)
            sequence.CachedPromptTokens = sequence.Computed;
        RecomputedTokens += Math.Max(0, sequence.Lost - sequence.Computed);
        sequence.Lost = 0;
        PrefixQueriedTokens += sequence.Length;
        PrefixHitTokens += sequence.Computed;

        // Run it.
        waiting.Remove(sequence);
        running.Add(sequence);
        sequence.Slot = slots.Pop();
        sequence.Admissions++;
        sequence.LengthAtAdmission = sequence.Length;
        int count = Math.Min(sequence.Pending, budget);
        Run(sequence, count);
        Register(sequence, sequence.Computed + count);
        return true;
    }

    /// <summary>
    /// Fills a sequence's block table with the blocks that the prefix cache has, without acquiring them.
    /// </summary>
    /// <param name="prefix">The prefix that ends with the last of them.</param>
    /// <returns>How many of them are free.</returns>
    private int FindCached(Sequence sequence, out long prefix)
    {
        int size = pool.BlockSize;
        int mostHits = (sequence.Length - 1) / size; // the last token is always computed: its logits are needed
        int free = 0;
        prefix = pool.Root;
        while (sequence.Blocks.Count < mostHits)
        {
            var tokens = sequence.Tokens.Slice(sequence.Blocks.Count * size, size);
            if (!pool.TryFind(prefix, tokens, out int block, out long next))
                break;

            if (pool.IsFree(block))
                free++;
            sequence.Blocks.Add(block);
            prefix = next;
        }

        return free;
    }

    private void Run(Sequence sequence, int count)
    {
        while (sequence.Blocks.Count < BlocksFor(sequence.Computed + count))
            sequence.Blocks.Add(pool.Allocate());
        batch.Add((sequence, count));
        budget -= count;
    }

    /// <summary>
    /// Makes blocks findable from the step on that fills them: a step writes all its keys and values of a layer before
    /// any attention of that layer reads, so that sequences admitted together share a prompt that is computed in the
    /// same step. A block whose last token is still being drawn has no name yet; it gets one in the next step.
    /// </summary>
    private void Register(Sequence sequence, int tokens)
    {
        int size = pool.BlockSize;
        tokens = Math.Min(tokens, sequence.Known);
        for (; (sequence.Registered + 1) * size <= tokens; sequence.Registered++)
        {
            int block = sequence.Blocks[sequence.Registered];
            var blockTokens = sequence.Tokens.Slice(sequence.Registered * size, size);
            sequence.Prefix = pool.Register(block, sequence.Prefix, blockTokens);
        }
    }

    private void Release(Sequence sequence)
    {
        if (sequence.Slot >= 0)
            slots.Push(sequence.Slot);
        sequence.Slot = -1;
        for (int i = sequence.Blocks.Count - 1; i >= 0; i--)
            pool.Release(sequence.Blocks[i]); // the last block first: a prefix outlives what follows it
        sequence.Blocks.Clear();
        sequence.Computed = 0;
        sequence.Registered = 0;
    }

    private int BlocksFor(int tokens) => (tokens + pool.BlockSize - 1) / pool.BlockSize;
}
