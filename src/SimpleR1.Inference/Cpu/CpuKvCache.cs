using System.Runtime.InteropServices;
using SimpleR1.Models;

namespace SimpleR1.Inference.Cpu;

/// <summary>
/// Keys and values of all blocks on the CPU, f32. A layer's keys are [blocks, kvHeads, headDimension, blockSize] (transposed inside a block: 16 positions are
/// one vector, so that scores need no horizontal sums), its values [blocks, kvHeads, blockSize, headDimension].
/// </summary>
internal sealed unsafe class CpuKvCache : IDisposable
{
    private readonly float* memory; // [layers, keys | values, ...]; untouched pages cost nothing
    private readonly long layerElements;

    public CpuKvCache(ModelConfig config, int blocks, int blockSize)
    {
        layerElements = (long)blocks * config.KeyValueSize * blockSize;
        memory = (float*)NativeMemory.AlignedAlloc((nuint)(blocks * BytesPerBlock(config, blockSize)), 64);
    }

    public static long BytesPerBlock(ModelConfig config, int blockSize) =>
        2L * config.Layers * config.KeyValueSize * blockSize * sizeof(float);

    public float* Keys(int layer) => memory + 2 * layer * layerElements;

    public float* Values(int layer) => Keys(layer) + layerElements;

    public void Dispose() => NativeMemory.AlignedFree(memory);
}
