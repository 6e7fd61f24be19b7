namespace SimpleR1.Inference.Scheduling;

/// <summary>
/// Who holds which KV block. Blocks are counted by reference. A full block can be registered under (the prefix before
/// it, its tokens), and other sequences can then find it, also after its last holder has released it, until it is
/// allocated again. Free blocks are allocated in the order in which they were freed.
/// </summary>
/// <remarks>
/// A prefix is known by a number that is given once and never again. Number + tokens therefore stand for the whole text
/// before, exactly: a hash collision is only a miss, never a wrong block. <see cref="ResetCache"/> starts from a new
/// root number: what was computed before can't be reached from it, even if a sequence still holds an old prefix and
/// registers blocks after it.
/// </remarks>
public sealed class BlockPool
{
    private readonly int[] references;
    private readonly int[] next; // the free list, in both directions: a ring through the entry at index Count
    private readonly int[] previous;
    private readonly int[] tokens; // [blocks, blockSize], of registered blocks
    private readonly long[] parents; // the prefix before each registered block
    private readonly long[] prefixes; // the prefix that ends with each registered block; 0 means not registered
    private readonly Dictionary<ulong, int> byHash = [];
    private readonly bool caching;
    private long lastPrefix = 1;

    public BlockPool(int count, int blockSize, bool caching = true)
    {
        Count = count;
        BlockSize = blockSize;
        Free = count;
        this.caching = caching;

        references = new int[count];
        tokens = new int[checked(count * blockSize)];
        parents = new long[count];
        prefixes = new long[count];

        next = new int[count + 1];
        previous = new int[count + 1];
        for (int i = 0; i <= count; i++)
        {
            next[i] = (i + 1) % (count + 1);
            previous[i] = (i + count) % (count + 1);
        }
    }

    /// <summary>Blocks in all.</summary>
    public int Count { get; }
    public int BlockSize { get; }

    /// <summary>Blocks without holders, cached ones included.</summary>
    public int Free { get; private set; }

    /// <summary>Blocks that can be found by their tokens.</summary>
    public int Cached => byHash.Count;

    /// <summary>The empty prefix: the parent of first blocks.</summary>
    public long Root { get; private set; } = 1;

    public bool IsFree(int block) => references[block] == 0;

    /// <summary>Takes a free block, whose former content can't be found any more.</summary>
    /// <exception cref="InvalidOperationException">No block is free.</exception>
    public int Allocate()
    {
        if (Free == 0)
            throw new InvalidOperationException($"all {Count} KV blocks are in use");

        int block = next[Count];
        Unlink(block);
        Unregister(block);
        references[block] = 1;
        return block;
    }

    /// <summary>Adds a holder to a block that <see cref="TryFind"/> returned.</summary>
    public void Acquire(int block)
    {
        if (references[block]++ == 0)
            Unlink(block);
    }

    /// <summary>
    /// Removes a holder. A block without holders is free: last in line if it can be found, first if not.
    /// </summary>
    /// <exception cref="InvalidOperationException">The block has no holder.</exception>
    public void Release(int block)
    {
        if (references[block] <= 0)
            throw new InvalidOperationException($"KV block {block} is released but has no holder");
        if (--references[block] > 0)
            return;

        int neighbour = prefixes[block] != 0 ? previous[Count] : Count; // the entry to insert after
        next[block] = next[neighbour];
        previous[block] = neighbour;
        previous[next[block]] = block;
        next[neighbour] = block;
        Free++;
    }

    /// <summary>
    /// Looks up the block that holds <paramref name="blockTokens"/> after the prefix <paramref name="parent"/>.
    /// </summary>
    /// <param name="prefix">The prefix that ends with the block; 0 if there is none.</param>
    public bool TryFind(long parent, ReadOnlySpan<int> blockTokens, out int block, out long prefix)
    {
        bool found =
            byHash.TryGetValue(Hash(parent, blockTokens), out block)
            && parents[block] == parent
            && TokensOf(block).SequenceEqual(blockTokens);
        prefix = found ? prefixes[block] : 0;
        return found;
    }

    /// <summary>Makes a full block findable. If an equal one is registered already, that one stays.</summary>
    /// <returns>The prefix that ends with the block, for the next block's registration.</returns>
    /// <exception cref="InvalidOperationException">The block is free, registered, or not full.</exception>
    public long Register(int block, long parent, ReadOnlySpan<int> blockTokens)
    {
        if (references[block] == 0 || prefixes[block] != 0 || blockTokens.Length != BlockSize)
            throw new InvalidOperationException(
                $"KV block {block} can't be registered: it has {references[block]} holders, "
                    + $"prefix {prefixes[block]} and {blockTokens.Length} tokens"
            );
        if (TryFind(parent, blockTokens, out _, out long existing))
            return existing;

        lastPrefix++;
        if (!caching || !byHash.TryAdd(Hash(parent, blockTokens), block))
            return lastPrefix;

        parents[block] = parent;
        prefixes[block] = lastPrefix;
        blockTokens.CopyTo(TokensOf(block));
        return lastPrefix;
    }

    /// <summary>
    /// Forgets all cached blocks, because their keys and values come from old weights; holders keep theirs.
    /// </summary>
    public void ResetCache()
    {
        byHash.Clear();
        Array.Clear(prefixes);
        Root = ++lastPrefix;
    }

    /// <summary>Checks that references, free list and cache agree.</summary>
    /// <param name="tables">All block tables: with them, also checks that they hold exactly the references.</param>
    /// <exception cref="InvalidOperationException">An invariant is broken; the message names it.</exception>
    public void CheckInvariants(IEnumerable<IReadOnlyList<int>>? tables = null)
    {
        CheckFreeList();
        CheckCache();
        if (tables is not null)
            CheckReferences(tables);
    }

    private void CheckFreeList()
    {
        int listed = 0;
        for (int block = next[Count]; block != Count; block = next[block])
        {
            Check(listed < Count && previous[next[block]] == block, $"the free list is broken at block {block}");
            Check(references[block] == 0, $"block {block} is free and has {references[block]} holders");
            listed++;
        }

        int unheld = references.Count(r => r == 0);
        Check(
            listed == Free && listed == unheld,
            $"{listed} blocks in the free list, {Free} counted, {unheld} without holders"
        );
    }

    private void CheckCache()
    {
        foreach (var (hash, block) in byHash)
            Check(
                prefixes[block] != 0 && Hash(parents[block], TokensOf(block)) == hash,
                $"block {block} is cached under another block's hash"
            );

        int registered = prefixes.Count(p => p != 0);
        Check(byHash.Count == registered, $"{byHash.Count} blocks are cached, {registered} have a prefix");
    }

    private void CheckReferences(IEnumerable<IReadOnlyList<int>> tables)
    {
        var held = new int[Count];
        foreach (var table in tables)
        foreach (int block in table)
            held[block]++;

        for (int block = 0; block < Count; block++)
            Check(
                held[block] == references[block],
                $"block {block} is in {held[block]} block tables and has {references[block]} references"
            );
    }

    private static void Check(bool holds, string problem)
    {
        if (!holds)
            throw new InvalidOperationException("block pool: " + problem);
    }

    private Span<int> TokensOf(int block) => tokens.AsSpan(block * BlockSize, BlockSize);

    /// <summary>Takes a block out of the free list.</summary>
    private void Unlink(int block)
    {
        next[previous[block]] = next[block];
        previous[next[block]] = previous[block];
        Free--;
    }

    private void Unregister(int block)
    {
        if (prefixes[block] == 0)
            return;
        byHash.Remove(Hash(parents[block], TokensOf(block)));
        prefixes[block] = 0;
    }

    private static ulong Hash(long parent, ReadOnlySpan<int> tokens)
    {
        ulong hash = (ulong)parent * 0x9E3779B97F4A7C15;
        foreach (int token in tokens)
        {
            hash = (hash ^ (uint)token) * 0xFF51AFD7ED558CCD;
            hash ^= hash >> 32;
        }

        return hash;
    }
}
