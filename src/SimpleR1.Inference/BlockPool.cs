namespace SimpleR1.Inference;

/// <summary>
/// Who holds which KV block. Blocks are counted by reference; a full block can be registered under (the prefix before it, its tokens)
/// and then be found by other sequences, also after its last holder has gone, until it is handed out again: least recently freed first.
/// </summary>
/// <remarks>
/// A prefix is known by a number that is given once and never again. Number + tokens therefore stand for the whole text before, exactly:
/// a hash collision is only a miss, never a wrong block. Forgetting everything (<see cref="ResetCache"/>) is a new root number:
/// what was computed before can't be reached from it, even where a sequence still holds an old prefix and registers behind it.
/// </remarks>
public sealed class BlockPool
{
    private readonly int[] references;
    private readonly int[] next,
        previous; // the free list: a ring through the entry at index Count
    private readonly int[] tokens; // [blocks, blockSize], of registered blocks
    private readonly long[] parent,
        prefix; // of registered blocks; prefix 0 means not registered
    private readonly Dictionary<ulong, int> byHash = [];
    private readonly bool caching;
    private long lastPrefix = 1;

    public BlockPool(int count, int blockSize, bool caching = true)
    {
        (Count, BlockSize, this.caching) = (count, blockSize, caching);
        references = new int[count];
        (next, previous) = (new int[count + 1], new int[count + 1]);
        tokens = new int[checked(count * blockSize)];
        (parent, prefix) = (new long[count], new long[count]);
        for (int i = 0; i <= count; i++)
            (next[i], previous[i]) = ((i + 1) % (count + 1), (i + count) % (count + 1));
        Free = count;
    }

    /// <summary>Blocks in all.</summary>
    public int Count { get; }
    public int BlockSize { get; }

    /// <summary>Blocks that nobody holds, cached ones included.</summary>
    public int Free { get; private set; }

    /// <summary>Blocks that can be found by their tokens.</summary>
    public int Cached => byHash.Count;

    /// <summary>The empty prefix: the parent of first blocks.</summary>
    public long Root { get; private set; } = 1;

    public bool IsFree(int block) => references[block] == 0;

    /// <summary>Takes a free block; what it held can't be found any more.</summary>
    /// <exception cref="InvalidOperationException">None is free.</exception>
    public int Allocate()
    {
        if (Free == 0)
            throw new InvalidOperationException($"all {Count} KV blocks are in use");
        int block = next[Count];
        Unlink(block);
        Forget(block);
        references[block] = 1;
        return block;
    }

    /// <summary>One more holder of a block that <see cref="TryFind"/> gave.</summary>
    public void Acquire(int block)
    {
        if (references[block]++ == 0)
            Unlink(block);
    }

    /// <summary>One holder less. A block without holders is free: last in line if it can be found, first if not.</summary>
    public void Release(int block)
    {
        if (references[block] <= 0)
            throw new InvalidOperationException($"KV block {block} is released but nobody holds it");
        if (--references[block] > 0)
            return;
        int before = prefix[block] != 0 ? previous[Count] : Count;
        (next[block], previous[block]) = (next[before], before);
        previous[next[block]] = next[before] = block;
        Free++;
    }

    /// <summary>The block that holds <paramref name="blockTokens"/> after the prefix <paramref name="parentPrefix"/>.</summary>
    /// <param name="prefixThere">The prefix that ends with the block.</param>
    public bool TryFind(long parentPrefix, ReadOnlySpan<int> blockTokens, out int block, out long prefixThere)
    {
        bool found =
            byHash.TryGetValue(Hash(parentPrefix, blockTokens), out block)
            && parent[block] == parentPrefix
            && TokensOf(block).SequenceEqual(blockTokens);
        prefixThere = found ? prefix[block] : 0;
        return found;
    }

    /// <summary>Makes a full block findable. Where an equal one is, that one stays.</summary>
    /// <returns>The prefix that ends with the block, for the next one's registration.</returns>
    public long Register(int block, long parentPrefix, ReadOnlySpan<int> blockTokens)
    {
        if (references[block] == 0 || prefix[block] != 0 || blockTokens.Length != BlockSize)
            throw new InvalidOperationException(
                $"KV block {block} can't be registered: it has {references[block]} holders, prefix {prefix[block]} and {blockTokens.Length} tokens"
            );
        if (TryFind(parentPrefix, blockTokens, out _, out long existing))
            return existing;
        lastPrefix++;
        if (!caching || !byHash.TryAdd(Hash(parentPrefix, blockTokens), block))
            return lastPrefix;
        (parent[block], prefix[block]) = (parentPrefix, lastPrefix);
        blockTokens.CopyTo(TokensOf(block));
        return lastPrefix;
    }

    /// <summary>Forgets all cached blocks (their keys and values come from weights that are no more); holders keep theirs.</summary>
    public void ResetCache()
    {
        byHash.Clear();
        Array.Clear(prefix);
        Root = ++lastPrefix;
    }

    /// <summary>Checks that references, free list and cache agree; with tables, that they hold exactly the references.</summary>
    /// <exception cref="InvalidOperationException">Something is wrong; says what.</exception>
    public void CheckInvariants(IEnumerable<IReadOnlyList<int>>? tables = null)
    {
        static void Check(bool holds, string what)
        {
            if (!holds)
                throw new InvalidOperationException("block pool: " + what);
        }
        int listed = 0;
        for (int block = next[Count]; block != Count; block = next[block], listed++)
        {
            Check(listed < Count && previous[next[block]] == block, $"the free list is broken at block {block}");
            Check(references[block] == 0, $"block {block} is free and has {references[block]} holders");
        }
        Check(
            listed == Free && listed == references.Count(r => r == 0),
            $"{listed} blocks in the free list, {Free} counted, {references.Count(r => r == 0)} without holders"
        );
        foreach (var (hash, block) in byHash)
            Check(
                prefix[block] != 0 && Hash(parent[block], TokensOf(block)) == hash,
                $"block {block} is cached under another hash than its own"
            );
        Check(
            byHash.Count == prefix.Count(p => p != 0),
            $"{byHash.Count} blocks are cached, {prefix.Count(p => p != 0)} have a prefix"
        );
        if (tables is null)
            return;
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

    private Span<int> TokensOf(int block) => tokens.AsSpan(block * BlockSize, BlockSize);

    private void Unlink(int block)
    {
        (next[previous[block]], previous[next[block]]) = (next[block], previous[block]);
        Free--;
    }

    private void Forget(int block)
    {
        if (prefix[block] == 0)
            return;
        byHash.Remove(Hash(parent[block], TokensOf(block)));
        prefix[block] = 0;
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
