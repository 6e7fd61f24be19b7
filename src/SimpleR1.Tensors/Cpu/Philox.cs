using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace SimpleR1.Tensors.Cpu;

/// <summary>
/// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): 128 random bits that are a
/// function of a 64-bit key and a 128-bit counter. Nothing is carried from draw to draw, so any number can be had at
/// any time, in any order, on any device.
/// </summary>
public static class Philox
{
    private const uint Multiplier0 = 0xD2511F53,
        Multiplier1 = 0xCD9E8D57,
        Weyl0 = 0x9E3779B9,
        Weyl1 = 0xBB67AE85;
    private const int Rounds = 10;

    public static (uint, uint, uint, uint) Draw(ulong key, uint c0, uint c1, uint c2, uint c3)
    {
        var (k0, k1) = ((uint)key, (uint)(key >> 32));
        for (int round = 0; round < Rounds; round++, k0 += Weyl0, k1 += Weyl1)
        {
            ulong a = (ulong)Multiplier0 * c0,
                b = (ulong)Multiplier1 * c2;
            (c0, c1, c2, c3) = ((uint)(b >> 32) ^ c1 ^ k0, (uint)b, (uint)(a >> 32) ^ c3 ^ k1, (uint)a);
        }
        return (c0, c1, c2, c3);
    }

    /// <summary>16 draws, with counters (first + lane, c1, 0, 0); one vector for each of a draw's four words.</summary>
    public static (Vector512<uint>, Vector512<uint>, Vector512<uint>, Vector512<uint>) Draw16(
        ulong key,
        uint first,
        uint counter1
    )
    {
        var (k0, k1) = ((uint)key, (uint)(key >> 32));
        Vector512<uint> c0 = Vector512.Create(first) + Vector512<uint>.Indices,
            c1 = Vector512.Create(counter1),
            c2 = default,
            c3 = default;
        for (int round = 0; round < Rounds; round++, k0 += Weyl0, k1 += Weyl1)
        {
            var (highA, lowA) = Product(c0, Multiplier0);
            var (highB, lowB) = Product(c2, Multiplier1);
            (c0, c1, c2, c3) = (highB ^ c1 ^ Vector512.Create(k0), lowB, highA ^ c3 ^ Vector512.Create(k1), lowA);
        }
        return (c0, c1, c2, c3);
    }

    /// <summary>
    /// High and low halves of the 64-bit products: even and odd lanes are multiplied apart, then put back together.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector512<uint> High, Vector512<uint> Low) Product(Vector512<uint> x, uint multiplier)
    {
        var lowHalf = Vector512.Create(0xFFFFFFFFul);
        Vector512<ulong> even = Widening(x.AsUInt64(), multiplier),
            odd = Widening(x.AsUInt64() >> 32, multiplier);
        return (
            Vector512.ConditionalSelect(lowHalf, even >> 32, odd).AsUInt32(),
            Vector512.ConditionalSelect(lowHalf, even, odd << 32).AsUInt32()
        );
    }

    /// <summary>Products of the low 32 bits of each 64-bit lane.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<ulong> Widening(Vector512<ulong> x, uint multiplier) =>
        Avx512F.IsSupported
            ? Avx512F.Multiply(x.AsUInt32(), Vector512.Create((ulong)multiplier).AsUInt32())
            : (x & Vector512.Create(0xFFFFFFFFul)) * multiplier;
}
