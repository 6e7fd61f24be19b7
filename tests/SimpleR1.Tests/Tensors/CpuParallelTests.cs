using SimpleR1.Tensors;
using Xunit;

namespace SimpleR1.Tests.Tensors;

public sealed class CpuParallelTests
{
    [Fact]
    public void For_runs_every_item_once_on_several_threads()
    {
        var runs = new int[1000];
        var threads = new System.Collections.Concurrent.ConcurrentDictionary<int, bool>();
        CpuParallel.For(
            1000,
            i =>
            {
                Interlocked.Increment(ref runs[i]);
                threads[Environment.CurrentManagedThreadId] = true;
                Thread.SpinWait(10_000);
            }
        );
        Assert.All(runs, n => Assert.Equal(1, n));
        Assert.Equal(Math.Min(CpuParallel.Threads, 1000), threads.Count);
    }

    [Fact]
    public void For_with_a_failing_item_rethrows_it() =>
        Assert.Throws<FormatException>(() =>
            CpuParallel.For(
                100,
                i =>
                {
                    if (i == 50)
                        throw new FormatException("item 50");
                }
            )
        );
}
