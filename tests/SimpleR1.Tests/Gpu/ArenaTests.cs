using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

[Collection("GPU"), Trait("Category", "Gpu")]
public sealed class ArenaTests
{
    [Fact]
    public void Results_of_two_users_of_a_device_do_not_touch_each_other()
    {
        var gpu = Gpu.Require();
        const int rows = 6,
            width = 64;
        using var scope = NewDisposeScope();
        using var memory = Gpu.Upload(gpu, Gpu.Normal(rows * width, 1), ScalarType.Float32, out float[] values);
        var x = memory.Tensor([rows, width], float32);
        float[] expected = Ops.SwiGlu(tensor(values, [rows, width])).data<float>().ToArray();
        using Arena first = new(gpu),
            second = new(gpu);
        first.Reserve(1 << 16, "");

        var kept = SwiGlu(first);
        using (first.Enter())
        {
            second.Reserve(1 << 20, ""); // larger: with one arena for both, the first's memory would be freed here
            Assert.NotEqual(Aten.DataPointer(kept), Aten.DataPointer(SwiGlu(second)));
            second.NextLayer();
            gpu.Fill(Aten.DataPointer(second.Take([1 << 18], float32)), 0xff, 1 << 20);
            Assert.Same(first, ResultMemory.CurrentOf(gpu)); // the inner scope has ended
        }
        Gpu.AssertClose(expected, Gpu.Download(gpu, Aten.DataPointer(kept), expected.Length, ScalarType.Float32), 1e-5);
        Assert.Equal(Aten.DataPointer(kept), Aten.DataPointer(SwiGlu(first))); // the same address in every step

        Tensor SwiGlu(Arena arena)
        {
            using var results = arena.Enter();
            arena.Reset();
            return Ops.SwiGlu(x);
        }
    }

    [Fact]
    public void Operation_without_an_arena_says_what_it_needs()
    {
        var gpu = Gpu.Require();
        using var memory = Gpu.Upload(gpu, Gpu.Normal(64, 1), ScalarType.Float32, out _);
        using var x = memory.Tensor([1, 64], float32);
        Assert.Contains("need memory of it", Assert.Throws<InvalidOperationException>(() => Ops.SwiGlu(x)).Message);
        using var own = new Arena(gpu.WithOwnStream());
        using var results = own.Enter();
        Assert.Contains("another device", Assert.Throws<InvalidOperationException>(() => Ops.SwiGlu(x)).Message);
    }
}
