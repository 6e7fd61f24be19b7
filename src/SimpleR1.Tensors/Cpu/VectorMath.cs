using System.Runtime.Intrinsics;

namespace SimpleR1.Tensors.Cpu;

/// <summary>Elementary functions on 16 floats at a time.</summary>
public static class VectorMath
{
    /// <summary>
    /// eˣ to 2e-7 relative for x ≤ 88, 0 below −87; NaN stays NaN. (Cody and Waite's reduction, the Cephes library's
    /// polynomial.)
    /// </summary>
    public static Vector512<float> Exp(Vector512<float> x)
    {
        var n = Vector512.Round(x * 1.44269504f);
        var r = Vector512.FusedMultiplyAdd(n, Vector512.Create(-0.693359375f), x);
        r = Vector512.FusedMultiplyAdd(n, Vector512.Create(2.12194440e-4f), r);
        var p = Vector512.Create(1.9875691500e-4f);
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1.3981999507e-3f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(8.3334519073e-3f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(4.1665795894e-2f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(1.6666665459e-1f));
        p = Vector512.FusedMultiplyAdd(p, r, Vector512.Create(5.0000001201e-1f));
        p = Vector512.FusedMultiplyAdd(p, r * r, r + Vector512<float>.One);

        // 2ⁿ by its exponent bits.
        var power = Vector512.ShiftLeft(Vector512.ConvertToInt32Native(n) + Vector512.Create(127), 23).AsSingle();
        return Vector512.AndNot(p * power, Vector512.LessThan(x, Vector512.Create(-87f)));
    }
}
