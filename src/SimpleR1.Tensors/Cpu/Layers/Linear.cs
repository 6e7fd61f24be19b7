using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace SimpleR1.Tensors.Cpu.Layers;

/// <summary>
/// y = x·Wᵀ + b, both matrices read where they lie: at decoding sizes packing them, as a BLAS does, costs more than
/// the product. Every output is one dot product whose terms are added in the same order whatever the number of rows:
/// a token has the same bits in every batch, in training too.
/// </summary>
internal static unsafe class Linear
{
    private const int Lanes = 16,
        Tile = 4;
    private const int RowsPerPass = 64; // rows of x that stay in the second-level cache while W passes by
    private const long BytesPerItem = 64 << 10; // of W

    /// <param name="x">[rows, inputs]</param>
    /// <param name="weight">[outputs, inputs]</param>
    /// <param name="bias">[outputs] or null</param>
    /// <param name="y">[rows, outputs]</param>
    public static void Forward(float* x, float* weight, float* bias, float* y, ProductShape shape)
    {
        var (rows, outputs, inputs) = shape;
        int perItem = (int)Math.Max(Tile, BytesPerItem / sizeof(float) / inputs / Tile * Tile);
        CpuParallel.For(
            (outputs + perItem - 1) / perItem,
            item =>
            {
                int end = Math.Min(outputs, (item + 1) * perItem);
                for (int first = 0; first < rows; first += RowsPerPass)
                {
                    int last = Math.Min(rows, first + RowsPerPass);
                    for (int o = item * perItem; o < end; o += Tile)
                    {
                        int width = Math.Min(Tile, end - o),
                            r = first;
                        float* w = weight + (long)o * inputs;
                        for (; r <= last - Tile; r += Tile)
                        {
                            if (first == 0 && o + 2 * Tile <= end)
                                Prefetch(w + Tile * inputs, r / Tile, rows / Tile, inputs);
                            Dots4(
                                x + (long)r * inputs,
                                w,
                                width,
                                inputs,
                                bias == null ? null : bias + o,
                                y + (long)r * outputs + o,
                                outputs
                            );
                        }
                        for (; r < last; r++)
                            Dots1(
                                x + (long)r * inputs,
                                w,
                                width,
                                inputs,
                                bias == null ? null : bias + o,
                                y + (long)r * outputs + o
                            );
                    }
                }
            }
        );
    }

    /// <summary>
    /// Asks for one share of the next rows of W while the current ones are used, so that loading and computing
    /// overlap.
    /// </summary>
    private static void Prefetch(float* w, int share, int shares, int inputs)
    {
        if (!Sse.IsSupported)
            return;
        shares = Math.Min(shares, RowsPerPass / Tile);
        int total = Tile * inputs,
            end = (int)((long)total * (share + 1) / shares);
        for (int i = (int)((long)total * share / shares) / Lanes * Lanes; i < end; i += Lanes)
            Sse.Prefetch0(w + i);
    }

    /// <summary>
    /// 4 rows of x times <paramref name="width"/> ≤ 4 rows of W. Missing rows of W are computed as copies of the
    /// first, and not stored.
    /// </summary>
    private static void Dots4(float* x, float* w, int width, int n, float* bias, float* y, int yRow)
    {
        float* x1 = x + n,
            x2 = x1 + n,
            x3 = x2 + n,
            w1 = width > 1 ? w + n : w,
            w2 = width > 2 ? w + 2 * n : w,
            w3 = width > 3 ? w + 3 * n : w;
        Vector512<float> s00,
            s01,
            s02,
            s03,
            s10,
            s11,
            s12,
            s13,
            s20,
            s21,
            s22,
            s23,
            s30,
            s31,
            s32,
            s33;
        s00 =
            s01 =
            s02 =
            s03 =
            s10 =
            s11 =
            s12 =
            s13 =
            s20 =
            s21 =
            s22 =
            s23 =
            s30 =
            s31 =
            s32 =
            s33 =
                Vector512<float>.Zero;
        int i = 0;
        for (; i <= n - Lanes; i += Lanes)
        {
            Vector512<float> a = Vector512.Load(w + i),
                b = Vector512.Load(w1 + i),
                c = Vector512.Load(w2 + i),
                d = Vector512.Load(w3 + i),
                v = Vector512.Load(x + i);
            s00 = Vector512.FusedMultiplyAdd(v, a, s00);
            s01 = Vector512.FusedMultiplyAdd(v, b, s01);
            s02 = Vector512.FusedMultiplyAdd(v, c, s02);
            s03 = Vector512.FusedMultiplyAdd(v, d, s03);
            v = Vector512.Load(x1 + i);
            s10 = Vector512.FusedMultiplyAdd(v, a, s10);
            s11 = Vector512.FusedMultiplyAdd(v, b, s11);
            s12 = Vector512.FusedMultiplyAdd(v, c, s12);
            s13 = Vector512.FusedMultiplyAdd(v, d, s13);
            v = Vector512.Load(x2 + i);
            s20 = Vector512.FusedMultiplyAdd(v, a, s20);
            s21 = Vector512.FusedMultiplyAdd(v, b, s21);
            s22 = Vector512.FusedMultiplyAdd(v, c, s22);
            s23 = Vector512.FusedMultiplyAdd(v, d, s23);
            v = Vector512.Load(x3 + i);
            s30 = Vector512.FusedMultiplyAdd(v, a, s30);
            s31 = Vector512.FusedMultiplyAdd(v, b, s31);
            s32 = Vector512.FusedMultiplyAdd(v, c, s32);
            s33 = Vector512.FusedMultiplyAdd(v, d, s33);
        }
        Store(Sums(s00, s01, s02, s03), x, w, w1, w2, w3, i, n, bias, y, width);
        Store(Sums(s10, s11, s12, s13), x1, w, w1, w2, w3, i, n, bias, y + yRow, width);
        Store(Sums(s20, s21, s22, s23), x2, w, w1, w2, w3, i, n, bias, y + 2 * yRow, width);
        Store(Sums(s30, s31, s32, s33), x3, w, w1, w2, w3, i, n, bias, y + 3 * yRow, width);
    }

    private static void Dots1(float* x, float* w, int width, int n, float* bias, float* y)
    {
        float* w1 = width > 1 ? w + n : w,
            w2 = width > 2 ? w + 2 * n : w,
            w3 = width > 3 ? w + 3 * n : w;
        Vector512<float> s0,
            s1,
            s2,
            s3;
        s0 = s1 = s2 = s3 = Vector512<float>.Zero;
        int i = 0;
        for (; i <= n - Lanes; i += Lanes)
        {
            var v = Vector512.Load(x + i);
            s0 = Vector512.FusedMultiplyAdd(v, Vector512.Load(w + i), s0);
            s1 = Vector512.FusedMultiplyAdd(v, Vector512.Load(w1 + i), s1);
            s2 = Vector512.FusedMultiplyAdd(v, Vector512.Load(w2 + i), s2);
            s3 = Vector512.FusedMultiplyAdd(v, Vector512.Load(w3 + i), s3);
        }
        Store(Sums(s0, s1, s2, s3), x, w, w1, w2, w3, i, n, bias, y, width);
    }

    /// <summary>Adds what is left of the rows after whole vectors, and the bias.</summary>
    private static void Store(
        Vector128<float> sums,
        float* x,
        float* w,
        float* w1,
        float* w2,
        float* w3,
        int i,
        int n,
        float* bias,
        float* y,
        int width
    )
    {
        for (; i < n; i++)
            sums += x[i] * Vector128.Create(w[i], w1[i], w2[i], w3[i]);
        if (width == Tile)
        {
            (bias == null ? sums : sums + Vector128.Load(bias)).Store(y);
            return;
        }
        for (int j = 0; j < width; j++)
            y[j] = sums[j] + (bias == null ? 0 : bias[j]);
    }

    /// <summary>The four sums over lanes, by a tree that adds neighbours of all four at once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> Sums(Vector512<float> a, Vector512<float> b, Vector512<float> c, Vector512<float> d)
    {
        if (!Avx512F.IsSupported)
            return Vector128.Create(Vector512.Sum(a), Vector512.Sum(b), Vector512.Sum(c), Vector512.Sum(d));
        Vector512<float> ab = Avx512F.UnpackLow(a, b) + Avx512F.UnpackHigh(a, b),
            cd = Avx512F.UnpackLow(c, d) + Avx512F.UnpackHigh(c, d);

        // In each quarter: partial sums of a, b, c, d.
        var abcd = Avx512F.Shuffle(ab, cd, 0x44) + Avx512F.Shuffle(ab, cd, 0xEE);
        var half = abcd.GetLower() + abcd.GetUpper();
        return half.GetLower() + half.GetUpper();
    }
}
