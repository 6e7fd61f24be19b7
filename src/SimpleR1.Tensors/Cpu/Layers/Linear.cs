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
    private const long BytesPerItem = 64 << 10; // of W in f32
    private const int RowsToWidenFor = 16; // rows of x from which a copy of W in f32 pays
    private const int CacheLine = 64; // bytes

    /// <summary>y = x·Wᵀ + b. Weights of 16 bits are widened as they are read, once for many rows of x.</summary>
    /// <param name="x">[rows, inputs]</param>
    /// <param name="weight">[outputs, inputs]</param>
    /// <param name="bias">[outputs] f32, or null</param>
    /// <param name="y">[rows, outputs]</param>
    public static void Forward<T>(float* x, byte* weight, float* bias, float* y, ProductShape shape)
        where T : struct, IStoredNumbers
    {
        var (rows, outputs, inputs) = shape;
        bool widens = T.Bytes < sizeof(float) && rows >= RowsToWidenFor;
        int perItem = (int)Math.Max(Tile, BytesPerItem / sizeof(float) / inputs / Tile * Tile);
        CpuParallel.For(
            (outputs + perItem - 1) / perItem,
            item =>
            {
                int first = item * perItem,
                    count = Math.Min(perItem, outputs - first);
                var part = new Part(x, bias == null ? null : bias + first, y + first, shape, count);
                byte* w = weight + (long)first * inputs * T.Bytes;
                if (widens)
                    Multiply<F32Numbers>(part, Widen<T>(w, (long)count * inputs));
                else
                    Multiply<T>(part, w);
            }
        );
    }

    /// <summary>A copy in f32, in the thread's scratch memory.</summary>
    private static byte* Widen<T>(byte* from, long count)
        where T : struct, IStoredNumbers
    {
        float* to = Scratch.Rent(count);
        StoredNumbers.Widen<T>(from, count, to);
        return (byte*)to;
    }

    /// <summary>All rows of x, and <paramref name="outputs"/> columns of y.</summary>
    private readonly struct Part(float* x, float* bias, float* y, ProductShape shape, int outputs)
    {
        public int Rows => shape.Rows;
        public int Inputs => shape.Inputs;
        public int Outputs => outputs;

        /// <summary>Elements from one row of y to the next.</summary>
        public int YRow => shape.Outputs;

        public float* X(int row) => x + (long)row * shape.Inputs;

        public float* Bias(int output) => bias == null ? null : bias + output;

        public float* Y(int row, int output) => y + (long)row * shape.Outputs + output;
    }

    private static void Multiply<T>(Part part, byte* weight)
        where T : struct, IStoredNumbers
    {
        int inputs = part.Inputs;
        for (int first = 0; first < part.Rows; first += RowsPerPass)
        {
            int last = Math.Min(part.Rows, first + RowsPerPass);
            for (int o = 0; o < part.Outputs; o += Tile)
            {
                int width = Math.Min(Tile, part.Outputs - o),
                    r = first;
                byte* w = weight + (long)o * inputs * T.Bytes;
                for (; r <= last - Tile; r += Tile)
                {
                    if (first == 0 && o + 2 * Tile <= part.Outputs)
                        Prefetch(w + (long)Tile * inputs * T.Bytes, r / Tile, part.Rows / Tile, inputs * T.Bytes);
                    Dots4<T>(part.X(r), w, width, inputs, part.Bias(o), part.Y(r, o), part.YRow);
                }
                for (; r < last; r++)
                    Dots1<T>(part.X(r), w, width, inputs, part.Bias(o), part.Y(r, o));
            }
        }
    }

    /// <summary>
    /// Asks for one share of the next rows of W while the current ones are used, so that loading and computing
    /// overlap.
    /// </summary>
    /// <param name="rowBytes">Bytes of a row of W.</param>
    private static void Prefetch(byte* w, int share, int shares, int rowBytes)
    {
        if (!Sse.IsSupported)
            return;
        shares = Math.Min(shares, RowsPerPass / Tile);
        int total = Tile * rowBytes,
            end = (int)((long)total * (share + 1) / shares);
        for (int i = (int)((long)total * share / shares) / CacheLine * CacheLine; i < end; i += CacheLine)
            Sse.Prefetch0(w + i);
    }

    /// <summary>
    /// 4 rows of x times <paramref name="width"/> ≤ 4 rows of W. Missing rows of W are computed as copies of the
    /// first, and not stored.
    /// </summary>
    private static void Dots4<T>(float* x, byte* w, int width, int n, float* bias, float* y, int yRow)
        where T : struct, IStoredNumbers
    {
        long row = (long)n * T.Bytes;
        float* x1 = x + n,
            x2 = x1 + n,
            x3 = x2 + n;
        byte* w1 = width > 1 ? w + row : w,
            w2 = width > 2 ? w + 2 * row : w,
            w3 = width > 3 ? w + 3 * row : w;
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
            Vector512<float> a = T.Load(w + i * T.Bytes),
                b = T.Load(w1 + i * T.Bytes),
                c = T.Load(w2 + i * T.Bytes),
                d = T.Load(w3 + i * T.Bytes),
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
        Store<T>(Sums(s00, s01, s02, s03), x, w, w1, w2, w3, i, n, bias, y, width);
        Store<T>(Sums(s10, s11, s12, s13), x1, w, w1, w2, w3, i, n, bias, y + yRow, width);
        Store<T>(Sums(s20, s21, s22, s23), x2, w, w1, w2, w3, i, n, bias, y + 2 * yRow, width);
        Store<T>(Sums(s30, s31, s32, s33), x3, w, w1, w2, w3, i, n, bias, y + 3 * yRow, width);
    }

    private static void Dots1<T>(float* x, byte* w, int width, int n, float* bias, float* y)
        where T : struct, IStoredNumbers
    {
        long row = (long)n * T.Bytes;
        byte* w1 = width > 1 ? w + row : w,
            w2 = width > 2 ? w + 2 * row : w,
            w3 = width > 3 ? w + 3 * row : w;
        Vector512<float> s0,
            s1,
            s2,
            s3;
        s0 = s1 = s2 = s3 = Vector512<float>.Zero;
        int i = 0;
        for (; i <= n - Lanes; i += Lanes)
        {
            var v = Vector512.Load(x + i);
            s0 = Vector512.FusedMultiplyAdd(v, T.Load(w + i * T.Bytes), s0);
            s1 = Vector512.FusedMultiplyAdd(v, T.Load(w1 + i * T.Bytes), s1);
            s2 = Vector512.FusedMultiplyAdd(v, T.Load(w2 + i * T.Bytes), s2);
            s3 = Vector512.FusedMultiplyAdd(v, T.Load(w3 + i * T.Bytes), s3);
        }
        Store<T>(Sums(s0, s1, s2, s3), x, w, w1, w2, w3, i, n, bias, y, width);
    }

    /// <summary>Adds what is left of the rows after whole vectors, and the bias.</summary>
    private static void Store<T>(
        Vector128<float> sums,
        float* x,
        byte* w,
        byte* w1,
        byte* w2,
        byte* w3,
        int i,
        int n,
        float* bias,
        float* y,
        int width
    )
        where T : struct, IStoredNumbers
    {
        for (; i < n; i++)
        {
            int at = i * T.Bytes;
            sums += x[i] * Vector128.Create(T.Read(w + at), T.Read(w1 + at), T.Read(w2 + at), T.Read(w3 + at));
        }
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
