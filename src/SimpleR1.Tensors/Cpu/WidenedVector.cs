using System.Runtime.InteropServices;
using SimpleR1.Tensors.Cpu.Layers;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cpu;

/// <summary>A small parameter (a norm's weight, a bias) in f32, whatever its element type.</summary>
internal static unsafe class WidenedVector
{
    [ThreadStatic]
    private static float* memory;

    [ThreadStatic]
    private static long capacity;

    /// <summary>The parameter itself where it is f32; else a copy that is valid until the thread's next call.</summary>
    public static float* Of(Tensor vector)
    {
        if (vector.dtype == ScalarType.Float32)
            return (float*)Aten.DataPointer(vector);
        long count = vector.numel();
        if (count > capacity)
        {
            NativeMemory.Free(memory);
            memory = (float*)NativeMemory.Alloc((nuint)count, sizeof(float));
            capacity = count;
        }
        StoredNumbers.Widen((byte*)Aten.DataPointer(vector), vector.dtype, 0, count, memory);
        return memory;
    }
}
