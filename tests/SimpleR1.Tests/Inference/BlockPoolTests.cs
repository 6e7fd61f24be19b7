using CsCheck;
using SimpleR1.Inference.Scheduling;
using Xunit;

namespace SimpleR1.Tests.Inference;

public sealed class BlockPoolTests
{
    private const int Size = 2;

    /// <summary>
    /// The pool's rules without its structures: prefixes are strings that say when they were named, the free list is a
    /// list.
    /// </summary>
    private sealed class Model(int count)
    {
        public readonly int[] References = new int[count];
        public readonly List<int> FreeOrder = [.. Enumerable.Range(0, count)];
        public readonly Dictionary<(string Parent, int Token), (int Block, string Name)> Cached = [];
        public int Names;
        public int Epoch;

        public bool IsCached(int block) => Cached.Values.Any(c => c.Block == block);

        public void Evict(int block)
        {
            foreach (var entry in Cached.Where(c => c.Value.Block == block).ToArray())
                Cached.Remove(entry.Key);
        }
    }

    private sealed class Holder
    {
        public readonly List<int> Blocks = [];
        public required string Name;
        public required long Prefix;
    }

    [Fact]
    public void Pool_under_random_use_agrees_with_a_plain_model()
    {
        Gen.Select(Gen.Int[0, 5], Gen.Int[0, 9], Gen.Int[0, 2])
            .Array[0, 120]
            .Sample(
                operations =>
                {
                    var pool = new BlockPool(6, Size);
                    var model = new Model(6);
                    var holders = new List<Holder>();
                    foreach (var (kind, pick, token) in operations)
                    {
                        var holder = holders.Count > 0 ? holders[pick % holders.Count] : null;
                        if (kind == 0)
                            holders.Add(new() { Name = $"epoch {model.Epoch} ", Prefix = pool.Root });
                        else if (kind is 1 or 2 or 3 && holder is not null)
                            Extend(pool, model, holder, token, lookUp: kind != 3);
                        else if (kind == 4 && holder is not null)
                        {
                            holders.Remove(holder);
                            End(pool, model, holder);
                        }
                        else if (kind == 5 && pick == 0)
                        {
                            pool.ResetCache();
                            model.Cached.Clear();
                            model.Epoch++;
                        }
                        pool.CheckInvariants(holders.Select(h => h.Blocks));
                        Assert.Equal(model.References.Count(r => r == 0), pool.Free);
                        Assert.Equal(model.Cached.Count, pool.Cached);
                    }
                },
                iter: 3_000
            );
    }

    private static void Extend(BlockPool pool, Model model, Holder holder, int token, bool lookUp)
    {
        int[] tokens = [token, token + 1];
        bool expected = model.Cached.TryGetValue((holder.Name, token), out var cached);
        bool hit = pool.TryFind(holder.Prefix, tokens, out int block, out long prefix);
        Assert.Equal(expected, hit);
        if (hit && lookUp)
        {
            Assert.Equal(cached.Block, block);
            pool.Acquire(block);
            model.FreeOrder.Remove(block);
        }
        else if (pool.Free == 0)
        {
            Assert.Throws<InvalidOperationException>(() => pool.Allocate());
            return;
        }
        else
        {
            block = pool.Allocate();
            Assert.Equal(model.FreeOrder[0], block);
            model.FreeOrder.RemoveAt(0);
            model.Evict(block);
            prefix = pool.Register(block, holder.Prefix, tokens);
            // An equal block keeps its place. Otherwise the prefix is new, also where an equal one was evicted before.
            if (!model.Cached.TryGetValue((holder.Name, token), out cached))
                model.Cached[(holder.Name, token)] = cached = (block, $"{holder.Name}{token}#{model.Names++} ");
        }
        model.References[block]++;
        holder.Blocks.Add(block);
        holder.Name = cached.Name;
        holder.Prefix = prefix;
    }

    private static void End(BlockPool pool, Model model, Holder holder)
    {
        foreach (int block in Enumerable.Reverse(holder.Blocks))
        {
            pool.Release(block);
            if (--model.References[block] == 0)
                model.FreeOrder.Insert(model.IsCached(block) ? model.FreeOrder.Count : 0, block);
        }
    }

    [Fact]
    public void Reset_while_a_sequence_runs_hides_what_it_registers_later()
    {
        var pool = new BlockPool(4, Size);
        long old = pool.Root;
        int block = pool.Allocate();
        pool.ResetCache();
        pool.Register(block, old, [1, 2]);
        Assert.False(pool.TryFind(pool.Root, [1, 2], out _, out _));
        pool.Release(block);
        pool.CheckInvariants([]);
    }

    [Fact]
    public void Cached_blocks_are_evicted_least_recently_freed_first_and_after_uncached_ones()
    {
        var pool = new BlockPool(3, Size);
        int a = pool.Allocate();
        int b = pool.Allocate();
        int plain = pool.Allocate();
        pool.Register(a, pool.Root, [1, 1]);
        pool.Register(b, pool.Root, [2, 2]);
        pool.Release(b);
        pool.Release(a);
        pool.Release(plain);
        Assert.Equal([plain, b, a], [pool.Allocate(), pool.Allocate(), pool.Allocate()]);
        Assert.Equal(0, pool.Cached);
    }

    [Fact]
    public void Without_caching_nothing_is_found()
    {
        var pool = new BlockPool(2, Size, caching: false);
        pool.Register(pool.Allocate(), pool.Root, [1, 2]);
        Assert.False(pool.TryFind(pool.Root, [1, 2], out _, out _));
    }

    [Fact]
    public void Invariants_name_a_reference_without_a_table()
    {
        var pool = new BlockPool(2, Size);
        int block = pool.Allocate();
        var error = Assert.Throws<InvalidOperationException>(() => pool.CheckInvariants([]));
        Assert.Contains($"block {block} is in 0 block tables and has 1 references", error.Message);
        pool.Release(block);
        Assert.Throws<InvalidOperationException>(() => pool.Release(block));
    }
}
