using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Tensors;

public sealed class GarbageCollectionTests
{
    /// <summary>
    /// As published, TorchSharp's operators fail here within seconds: the Scalars they make on the way (0.5, and the
    /// alpha of an addition) are freed while libtorch reads them. build/KeepScalars.cs mends it.
    /// </summary>
    [Fact]
    public async Task Operators_survive_garbage_collections_at_any_moment()
    {
        using var over = new CancellationTokenSource(TimeSpan.FromSeconds(6));
        var collecting = Task.Run(
            () =>
            {
                while (!over.IsCancellationRequested)
                {
                    GC.Collect(0);
                    GC.WaitForPendingFinalizers();
                }
            },
            TestContext.Current.CancellationToken
        );
        int sums = 0;
        using (NewDisposeScope())
        {
            Tensor x = ones(4, 4),
                y = full(4, 4, 3);
            for (; !over.IsCancellationRequested; sums++)
            {
                using var inner = NewDisposeScope();
                Assert.Equal(16 * 5, (x + y * 2 - 4 * x / 2).sum().item<float>());
            }
        }
        await collecting;
        Assert.True(sums > 100, $"only {sums} sums were computed");
    }
}
