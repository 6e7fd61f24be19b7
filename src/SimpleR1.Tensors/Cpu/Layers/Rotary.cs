using System.Numerics;

namespace SimpleR1.Tensors.Cpu.Layers;

/// <summary>
/// Rotary position embedding in place (Su et al. 2021): (a, b) → (a·cos − b·sin, b·cos + a·sin) for each pair (i, i +
/// d/2) of a head.
/// </summary>
internal static unsafe class Rotary
{
    private const int RowsPerItem = 16;

    /// <summary>
    /// Rows of x: <paramref name="Stride"/> elements each, of which the first <paramref name="Heads"/> heads are
    /// rotated.
    /// </summary>
    internal readonly record struct Rows(int Count, int Heads, int HeadDimension, int Stride);

    /// <summary>Each row's position, and the tables [positions, headDimension / 2].</summary>
    internal readonly struct Angles(long* positions, float* cosine, float* sine)
    {
        public readonly long* Positions = positions;
        public readonly float* Cosine = cosine;
        public readonly float* Sine = sine;
    }

    /// <param name="x">[rows, stride]: q, k and perhaps v heads of a fused row</param>
    /// <param name="direction">1 forward, −1 for the gradient (the inverse rotation)</param>
    public static void Rotate(float* x, Angles angles, Rows sizes, float direction)
    {
        var (rows, heads, headDimension, stride) = sizes;
        CpuParallel.For(
            (rows + RowsPerItem - 1) / RowsPerItem,
            item =>
            {
                long* positions = angles.Positions;
                float* cosine = angles.Cosine,
                    sine = angles.Sine;
                int half = headDimension / 2,
                    lanes = Vector<float>.Count;
                for (int row = item * RowsPerItem; row < Math.Min(rows, (item + 1) * RowsPerItem); row++)
                {
                    float* cos = cosine + positions[row] * half,
                        sin = sine + positions[row] * half;
                    for (int head = 0; head < heads; head++)
                    {
                        float* a = x + (long)row * stride + head * headDimension,
                            b = a + half;
                        int i = 0;
                        for (; i <= half - lanes; i += lanes)
                        {
                            Vector<float> va = Vector.Load(a + i),
                                vb = Vector.Load(b + i),
                                c = Vector.Load(cos + i),
                                s = Vector.Load(sin + i) * direction;
                            (va * c - vb * s).Store(a + i);
                            (vb * c + va * s).Store(b + i);
                        }
                        for (; i < half; i++)
                        {
                            float va = a[i],
                                vb = b[i],
                                s = sin[i] * direction;
                            a[i] = va * cos[i] - vb * s;
                            b[i] = vb * cos[i] + va * s;
                        }
                    }
                }
            }
        );
    }
}
