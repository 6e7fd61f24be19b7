using System.Runtime.InteropServices;

namespace SimpleR1.Inference.Cpu;

/// <summary>
/// Keys and values of all blocks on the CPU, f32. A layer's keys are [blocks, kvHeads, headDimension, blockSize]
/// (transposed inside a block: 16 positions are one vector, so that scores need no horizontal sums), its values
/// [blocks, kvHeads, blockSize, headDimension].
/// </summary>
internal sealed unsafe class CpuKvCache(KvLayout layout) : IDisposable
{
    // Pages cost nothing until they are touched.
    private readonly byte* memory = (byte*)NativeMemory.AlignedAlloc((nuint)layout.Bytes, 64);

    public float* Keys(int layer) => (float*)(memory + layout.KeysOffset(layer));

    public float* Values(int layer) => (float*)(memory + layout.ValuesOffset(layer));

    public void Dispose() => NativeMemory.AlignedFree(memory);
}
