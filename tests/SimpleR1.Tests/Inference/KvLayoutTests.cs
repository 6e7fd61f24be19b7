using SimpleR1.Inference;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Inference;

public sealed class KvLayoutTests
{
    /// <summary>2 layers, 2 key/value heads of 8 elements: 16 positions are 256 elements of keys.</summary>
    private static readonly KvLayout Layout = new(TinyModels.Config(), ScalarType.BFloat16, 16);

    [Fact]
    public void Layers_keys_and_values_lie_one_after_another()
    {
        var layout = Layout with { Blocks = 3 };
        const int blockBytes = 256 * 2;
        Assert.Equal(2 * 2 * blockBytes, layout.BytesPerBlock);
        Assert.Equal(3 * layout.BytesPerBlock, layout.Bytes);
        Assert.Equal(
            [0, 3 * blockBytes, 6 * blockBytes, 9 * blockBytes],
            new[] { layout.KeysOffset(0), layout.ValuesOffset(0), layout.KeysOffset(1), layout.ValuesOffset(1) }
        );
    }

    [Fact]
    public void Only_whole_blocks_count_and_never_more_positions_than_an_int()
    {
        Assert.Equal(4, Layout.Within(5 * Layout.BytesPerBlock - 1).Blocks);
        Assert.Equal(int.MaxValue / 16, Layout.Within(long.MaxValue).Blocks);
    }
}
