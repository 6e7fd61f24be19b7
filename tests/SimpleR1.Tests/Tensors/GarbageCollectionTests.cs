using SimpleR1.Tensors;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Tensors;

/// <summary>Runs alone: other tests use TorchSharp's own operators, which do not survive this.</summary>
[CollectionDefinition("Alone", DisableParallelization = true)]
public sealed class AloneCollection;

[Collection("Alone")]
public sealed class GarbageCollectionTests
{
    /// <summary>TorchSharp's own x + y fails here within a second: the alpha it makes is freed while libtorch reads it.</summary>
    [Fact]
    public async Task Additions_survive_garbage_collections_at_any_moment()
    {
        using var over = new CancellationTokenSource(TimeSpan.FromSeconds(2));
        var collecting = Task.Run(() =>
        {
            while (!over.IsCancellationRequested)
            {
                GC.Collect(0);
                GC.WaitForPendingFinalizers();
            }
        }, TestContext.Current.CancellationToken);
        using (var scope = NewDisposeScope())
        {
            Tensor x = ones(4, 4), y = ones(4, 4);
            while (!over.IsCancellationRequested)
            {
                using var inner = NewDisposeScope();
                using var tape = new Tape();
                tape.Accumulate(x, y.clone());
                tape.Accumulate(x, y.clone()); // added to the first
            }
        }
        await collecting;
    }
}
