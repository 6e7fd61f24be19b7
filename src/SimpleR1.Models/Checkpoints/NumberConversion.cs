using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Models.Checkpoints;

/// <summary>
/// Converts between the element types of weights, via f32: rounds to nearest, ties to even; NaN stays NaN.
/// </summary>
internal static unsafe class NumberConversion
{
    private static readonly Dictionary<ScalarType, WeightType> weightTypes = ElementType.All.ToDictionary(
        t => t.Scalar,
        t => Enum.Parse<WeightType>(t.SafetensorsName)
    );

    public static int Size(WeightType type) => type == WeightType.F32 ? 4 : 2;

    public static WeightType Of(ScalarType type) =>
        weightTypes.TryGetValue(type, out var weightType)
            ? weightType
            : throw new NotSupportedException($"weights are {ElementType.Names}, not {type}");

    /// <summary>Converts elements on this thread.</summary>
    /// <param name="from"><paramref name="count"/> elements of type <paramref name="fromType"/></param>
    public static void Convert(byte* from, WeightType fromType, byte* to, WeightType toType, int count)
    {
        if (fromType == toType)
        {
            Buffer.MemoryCopy(from, to, (long)count * Size(toType), (long)count * Size(toType));
            return;
        }
        if (toType == WeightType.F32)
        {
            Widen(from, fromType, (float*)to, count);
            return;
        }
        const int piece = 1024;
        float* wide = stackalloc float[piece];
        for (int at = 0; at < count; at += piece)
        {
            int n = Math.Min(piece, count - at);
            float* source = fromType == WeightType.F32 ? (float*)from + at : wide;
            if (fromType != WeightType.F32)
                Widen(from + at * 2, fromType, wide, n);
            if (toType == WeightType.F16)
                TensorPrimitives.ConvertToHalf(new ReadOnlySpan<float>(source, n), new Span<Half>(to + at * 2, n));
            else
                NarrowBFloat16(source, (ushort*)to + at, n);
        }
    }

    /// <summary>Converts any number of elements, in parallel.</summary>
    public static void ConvertAll(byte* from, WeightType fromType, byte* to, WeightType toType, long count)
    {
        const int item = 1 << 16;
        int fromSize = Size(fromType);
        int toSize = Size(toType);
        CpuParallel.For(
            checked((int)((count + item - 1) / item)),
            i =>
            {
                long at = (long)i * item;
                Convert(from + at * fromSize, fromType, to + at * toSize, toType, (int)Math.Min(item, count - at));
            }
        );
    }

    /// <summary>How many of any number of elements are NaN or infinite, in parallel.</summary>
    public static long CountNotFinite(byte* from, WeightType type, long count)
    {
        const int item = 1 << 16;
        long found = 0;
        CpuParallel.For(
            checked((int)((count + item - 1) / item)),
            i =>
            {
                long at = (long)i * item;
                int n = (int)Math.Min(item, count - at);
                byte* start = from + at * Size(type);
                long here =
                    type == WeightType.F32
                        ? CountOnes(new ReadOnlySpan<uint>(start, n), 0x7F80_0000u)
                        : CountOnes(
                            new ReadOnlySpan<ushort>(start, n),
                            (ushort)(type == WeightType.F16 ? 0x7C00 : 0x7F80)
                        );
                if (here > 0)
                    Interlocked.Add(ref found, here);
            }
        );
        return found;
    }

    /// <summary>How many numbers have ones in all bits of the mask: of the exponent, for example.</summary>
    private static long CountOnes<T>(ReadOnlySpan<T> numbers, T mask)
        where T : unmanaged, IBinaryInteger<T>
    {
        var vectors = MemoryMarshal.Cast<T, Vector<T>>(numbers);
        var masks = new Vector<T>(mask);
        bool any = false;
        foreach (var vector in vectors)
            any |= Vector.EqualsAny(vector & masks, masks);

        long found = 0;
        foreach (var number in any ? numbers : numbers[(vectors.Length * Vector<T>.Count)..])
            found += (number & mask) == mask ? 1 : 0;
        return found;
    }

    /// <summary>Converts within a GPU's memory, launched after the work in its stream; from any even address.</summary>
    public static void Convert(CudaDevice gpu, nint from, WeightType fromType, nint to, WeightType toType, long count)
    {
        if (fromType == toType)
            gpu.CopyWithin(from, to, count * Size(toType));
        else
            gpu.Kernels.Get(
                    "NumberConversion",
                    "convert_numbers",
                    ElementTypeOf(fromType).Definition("FROM"),
                    ElementTypeOf(toType).Definition()
                )
                .Launch(((int)Math.Min((count + 255) / 256, 16 * gpu.Multiprocessors), 1), 256, 0, from, to, count);
    }

    private static ElementType ElementTypeOf(WeightType type) =>
        ElementType.All.First(t => t.SafetensorsName == type.ToString());

    private static void Widen(byte* from, WeightType type, float* to, int count)
    {
        if (type == WeightType.F16)
        {
            TensorPrimitives.ConvertToSingle(new ReadOnlySpan<Half>(from, count), new Span<float>(to, count));
            return;
        }
        var bits = (ushort*)from;
        int i = 0;
        for (; i <= count - 16; i += 16)
        {
            var (low, high) = Vector256.Widen(Vector256.Load(bits + i));
            (low << 16).AsSingle().Store(to + i);
            (high << 16).AsSingle().Store(to + i + 8);
        }
        for (; i < count; i++)
            to[i] = BitConverter.UInt32BitsToSingle((uint)bits[i] << 16);
    }

    private static void NarrowBFloat16(float* from, ushort* to, int count)
    {
        int i = 0;
        for (; i <= count - 16; i += 16)
            Vector256.Narrow(Rounded(from + i), Rounded(from + i + 8)).Store(to + i);
        for (; i < count; i++)
        {
            uint bits = BitConverter.SingleToUInt32Bits(from[i]);
            to[i] = float.IsNaN(from[i])
                ? (ushort)(bits >> 16 | 0x40)
                : (ushort)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
        }

        static Vector256<uint> Rounded(float* x)
        {
            var value = Vector256.Load(x);
            var bits = value.AsUInt32();
            var rounded = bits + Vector256.Create(0x7FFFu) + (bits >> 16 & Vector256<uint>.One) >> 16;
            return Vector256.ConditionalSelect(
                Vector256.Equals(value, value).AsUInt32(),
                rounded,
                bits >> 16 | Vector256.Create(0x40u)
            );
        }
    }
}
