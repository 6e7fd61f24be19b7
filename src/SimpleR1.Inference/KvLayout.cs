using SimpleR1.Models;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Inference;

/// <summary>
/// How the memory for keys and values is cut up: [layers, keys | values, blocks, block]. A block holds one layer's
/// keys, or values, of <see cref="BlockSize"/> positions and all key/value heads; each device orders the inside of a
/// block its own way.
/// </summary>
/// <param name="Type">Element type of keys and values.</param>
/// <param name="BlockSize">Positions of a block.</param>
internal sealed record KvLayout(ModelConfig Config, ScalarType Type, int BlockSize)
{
    /// <summary>Blocks of every layer, and so of the block pool.</summary>
    public int Blocks { get; init; }

    /// <summary>Elements of a block in one layer: of its keys; its values have as many.</summary>
    public long BlockElements => (long)Config.KeyValueSize * BlockSize;

    /// <summary>Bytes of a block over all layers, keys and values.</summary>
    public long BytesPerBlock => 2 * Config.Layers * BlockElements * Type.ElementSize();

    /// <summary>Bytes of all blocks.</summary>
    public long Bytes => Blocks * BytesPerBlock;

    /// <summary>Bytes of the keys of one layer; its values take as many.</summary>
    private long LayerBytes => Blocks * BlockElements * Type.ElementSize();

    /// <summary>As many blocks as fit in <paramref name="bytes"/>, and as an int can count the positions of.</summary>
    public KvLayout Within(long bytes) =>
        this with
        {
            Blocks = (int)Math.Min(int.MaxValue / BlockSize, bytes / BytesPerBlock),
        };

    /// <summary>First byte of a layer's keys.</summary>
    public nint KeysOffset(int layer) => (nint)(2 * layer * LayerBytes);

    /// <summary>First byte of a layer's values.</summary>
    public nint ValuesOffset(int layer) => KeysOffset(layer) + (nint)LayerBytes;
}
