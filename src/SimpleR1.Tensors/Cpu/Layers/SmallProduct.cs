using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace SimpleR1.Tensors.Cpu.Layers;

/// <summary>
/// Products of matrices that fit in a core's cache, as attention over one sequence needs them: no packing, no call
/// overhead.
/// </summary>
internal static unsafe class SmallProduct
{
    private const int Lanes = 16;

    /// <summary>
    /// C = A·B, or C += A·B. A is read by strides (so that it may be transposed); rows of B and C are contiguous.
    /// </summary>
    /// <param name="a">[m, k] with element (i, p) at a[i·aRow + p·aColumn]</param>
    /// <param name="b">[k, n], row p at b + p·bRow</param>
    /// <param name="c">[m, n], row i at c + i·cRow</param>
    public static void Multiply(
        float* a,
        nint aRow,
        nint aColumn,
        float* b,
        nint bRow,
        float* c,
        nint cRow,
        int m,
        int n,
        int k,
        bool add
    )
    {
        int j = 0;
        for (; j <= n - 2 * Lanes; j += 2 * Lanes)
        {
            int i = 0;
            for (; i <= m - 4; i += 4)
                Tile4x2(a + i * aRow, aRow, aColumn, b + j, bRow, c + i * cRow + j, cRow, k, add);
            for (; i < m; i++)
                Tile1x2(a + i * aRow, aColumn, b + j, bRow, c + i * cRow + j, k, add);
        }
        for (; j <= n - Lanes; j += Lanes)
        {
            int i = 0;
            for (; i <= m - 4; i += 4)
                Tile4x1(a + i * aRow, aRow, aColumn, b + j, bRow, c + i * cRow + j, cRow, k, add);
            for (; i < m; i++)
                Tile1x1(a + i * aRow, aColumn, b + j, bRow, c + i * cRow + j, k, add);
        }
        for (; j < n; j++)
        for (int i = 0; i < m; i++)
        {
            float sum = add ? c[i * cRow + j] : 0;
            for (int p = 0; p < k; p++)
                sum += a[i * aRow + p * aColumn] * b[p * bRow + j];
            c[i * cRow + j] = sum;
        }
    }

    /// <summary>
    /// to[p, i] = from[i, p] for <paramref name="rows"/> rows of <paramref name="width"/>; columns up to
    /// <paramref name="toStride"/> become 0.
    /// </summary>
    public static void Transpose(float* from, nint fromStride, float* to, nint toStride, int rows, int width)
    {
        for (int p = 0; p < width; p++)
        {
            float* row = to + p * toStride;
            for (int i = 0; i < rows; i++)
                row[i] = from[i * fromStride + p];
            for (int i = rows; i < toStride; i++)
                row[i] = 0;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Fma(float a, Vector512<float> b, Vector512<float> sum) =>
        Vector512.FusedMultiplyAdd(Vector512.Create(a), b, sum);

    private static void Tile4x2(
        float* a,
        nint aRow,
        nint aColumn,
        float* b,
        nint bRow,
        float* c,
        nint cRow,
        int k,
        bool add
    )
    {
        Vector512<float> c00,
            c01,
            c10,
            c11,
            c20,
            c21,
            c30,
            c31;
        c00 = c01 = c10 = c11 = c20 = c21 = c30 = c31 = Vector512<float>.Zero;
        float* c1 = c + cRow,
            c2 = c1 + cRow,
            c3 = c2 + cRow;
        if (add)
        {
            c00 = Vector512.Load(c);
            c01 = Vector512.Load(c + Lanes);
            c10 = Vector512.Load(c1);
            c11 = Vector512.Load(c1 + Lanes);
            c20 = Vector512.Load(c2);
            c21 = Vector512.Load(c2 + Lanes);
            c30 = Vector512.Load(c3);
            c31 = Vector512.Load(c3 + Lanes);
        }
        float* a1 = a + aRow,
            a2 = a1 + aRow,
            a3 = a2 + aRow;
        for (int p = 0; p < k; p++, b += bRow)
        {
            var (b0, b1) = (Vector512.Load(b), Vector512.Load(b + Lanes));
            nint at = p * aColumn;
            c00 = Fma(a[at], b0, c00);
            c01 = Fma(a[at], b1, c01);
            c10 = Fma(a1[at], b0, c10);
            c11 = Fma(a1[at], b1, c11);
            c20 = Fma(a2[at], b0, c20);
            c21 = Fma(a2[at], b1, c21);
            c30 = Fma(a3[at], b0, c30);
            c31 = Fma(a3[at], b1, c31);
        }
        c00.Store(c);
        c01.Store(c + Lanes);
        c10.Store(c1);
        c11.Store(c1 + Lanes);
        c20.Store(c2);
        c21.Store(c2 + Lanes);
        c30.Store(c3);
        c31.Store(c3 + Lanes);
    }

    private static void Tile4x1(
        float* a,
        nint aRow,
        nint aColumn,
        float* b,
        nint bRow,
        float* c,
        nint cRow,
        int k,
        bool add
    )
    {
        Vector512<float> c0,
            c1,
            c2,
            c3;
        c0 = c1 = c2 = c3 = Vector512<float>.Zero;
        if (add)
        {
            c0 = Vector512.Load(c);
            c1 = Vector512.Load(c + cRow);
            c2 = Vector512.Load(c + 2 * cRow);
            c3 = Vector512.Load(c + 3 * cRow);
        }
        for (int p = 0; p < k; p++, b += bRow, a += aColumn)
        {
            var row = Vector512.Load(b);
            c0 = Fma(a[0], row, c0);
            c1 = Fma(a[aRow], row, c1);
            c2 = Fma(a[2 * aRow], row, c2);
            c3 = Fma(a[3 * aRow], row, c3);
        }
        c0.Store(c);
        c1.Store(c + cRow);
        c2.Store(c + 2 * cRow);
        c3.Store(c + 3 * cRow);
    }

    private static void Tile1x2(float* a, nint aColumn, float* b, nint bRow, float* c, int k, bool add)
    {
        var (c0, c1) = add
            ? (Vector512.Load(c), Vector512.Load(c + Lanes))
            : (Vector512<float>.Zero, Vector512<float>.Zero);
        for (int p = 0; p < k; p++, b += bRow, a += aColumn)
        {
            c0 = Fma(*a, Vector512.Load(b), c0);
            c1 = Fma(*a, Vector512.Load(b + Lanes), c1);
        }
        c0.Store(c);
        c1.Store(c + Lanes);
    }

    private static void Tile1x1(float* a, nint aColumn, float* b, nint bRow, float* c, int k, bool add)
    {
        var sum = add ? Vector512.Load(c) : Vector512<float>.Zero;
        for (int p = 0; p < k; p++, b += bRow, a += aColumn)
            sum = Fma(*a, Vector512.Load(b), sum);
        sum.Store(c);
    }
}
