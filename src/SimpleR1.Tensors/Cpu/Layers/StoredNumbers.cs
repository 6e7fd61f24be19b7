using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cpu.Layers;

/// <summary>
/// How weights of one element type are read: widened to f32 in registers, exactly, so that results have the bits of an
/// f32 copy.
/// </summary>
internal unsafe interface IStoredNumbers
{
    /// <summary>Bytes of a number.</summary>
    static abstract int Bytes { get; }

    /// <summary>16 numbers from an address on.</summary>
    static abstract Vector512<float> Load(byte* at);

    static abstract float Read(byte* at);
}

internal readonly unsafe struct F32Numbers : IStoredNumbers
{
    public static int Bytes => sizeof(float);

    public static Vector512<float> Load(byte* at) => Vector512.Load((float*)at);

    public static float Read(byte* at) => *(float*)at;
}

/// <summary>bf16: the upper half of an f32.</summary>
internal readonly unsafe struct BF16Numbers : IStoredNumbers
{
    public static int Bytes => sizeof(ushort);

    public static Vector512<float> Load(byte* at) => (SixteenBits.Load(at) << 16).AsSingle();

    public static float Read(byte* at) => BitConverter.UInt32BitsToSingle((uint)*(ushort*)at << 16);
}

/// <summary>f16: its exponent gets the bias of an f32's. Weights are finite, so infinities need no care.</summary>
internal readonly unsafe struct F16Numbers : IStoredNumbers
{
    private const uint Rebias = (127 - 15) << 23;
    private const uint LeastNormal = 1 << 23; // f16's least exponent, where an f32 has it

    public static int Bytes => sizeof(ushort);

    public static Vector512<float> Load(byte* at)
    {
        var bits = SixteenBits.Load(at);
        var magnitude = (bits & Vector512.Create(0x7FFFu)) << 13;
        var normal = magnitude + Vector512.Create(Rebias);

        // Below the least exponent a number is its fraction times 2^-24: read with a one before it, less that one
        var one = Vector512.Create(Rebias + LeastNormal);
        var small = ((magnitude + one).AsSingle() - one.AsSingle()).AsUInt32();
        var isSmall = Vector512.LessThan(magnitude, Vector512.Create(LeastNormal));
        var sign = (bits & Vector512.Create(0x8000u)) << 16;
        return (Vector512.ConditionalSelect(isSmall, small, normal) | sign).AsSingle();
    }

    public static float Read(byte* at) => (float)*(Half*)at;
}

/// <summary>Stored numbers as f32.</summary>
internal static unsafe class StoredNumbers
{
    private const int Lanes = 16;

    /// <param name="from">Numbers of the type.</param>
    /// <param name="first">Index of the first one.</param>
    public static void Widen(byte* from, ScalarType type, long first, long count, float* to)
    {
        switch (type)
        {
            case ScalarType.Float32:
                Widen<F32Numbers>(from + first * F32Numbers.Bytes, count, to);
                break;
            case ScalarType.BFloat16:
                Widen<BF16Numbers>(from + first * BF16Numbers.Bytes, count, to);
                break;
            default:
                Widen<F16Numbers>(from + first * F16Numbers.Bytes, count, to);
                break;
        }
    }

    public static void Widen<T>(byte* from, long count, float* to)
        where T : struct, IStoredNumbers
    {
        long i = 0;
        for (; i <= count - Lanes; i += Lanes)
            T.Load(from + i * T.Bytes).Store(to + i);
        for (; i < count; i++)
            to[i] = T.Read(from + i * T.Bytes);
    }
}

/// <summary>16 numbers of 16 bits, each in 32.</summary>
internal static unsafe class SixteenBits
{
    public static Vector512<uint> Load(byte* at)
    {
        var narrow = Vector256.Load((ushort*)at);
        if (Avx512F.IsSupported)
            return Avx512F.ConvertToVector512UInt32(narrow);
        var (low, high) = Vector256.Widen(narrow);
        return Vector512.Create(low, high);
    }
}
