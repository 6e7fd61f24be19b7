using Xunit;

namespace SimpleR1.Tests.Tensors;

public sealed class TorchLoading
{
    [Fact]
    public void Libtorch_loads_and_multiplies()
    {
        using var a = TorchSharp.torch.ones(2, 3);
        using var b = a.mm(a.t());
        Assert.Equal(3f, b[0, 0].item<float>());
    }
}
