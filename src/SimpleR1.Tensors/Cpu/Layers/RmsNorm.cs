using System.Numerics;
using System.Numerics.Tensors;

namespace SimpleR1.Tensors.Cpu.Layers;

/// <summary>y = x / sqrt(mean(x²) + ε) · w, row by row (Zhang and Sennrich 2019).</summary>
internal static unsafe class RmsNorm
{
    private const int RowsPerItem = 16;

    /// <summary>Sizes of a norm: <paramref name="Rows"/> rows of <paramref name="Width"/>.</summary>
    internal readonly record struct Shape(int Rows, int Width, double Epsilon);

    /// <summary>What is added to x before the norm: sum = x + delta. Both null: nothing.</summary>
    internal readonly struct Addition(float* delta, float* sum)
    {
        public readonly float* Delta = delta;
        public readonly float* Sum = sum;
    }

    /// <summary>y = norm(x), or norm(x + delta) where there is a delta.</summary>
    public static void Forward(float* x, Addition addition, float* weight, float* y, Shape shape)
    {
        int width = shape.Width;
        EachRow(
            shape.Rows,
            row =>
            {
                long at = (long)row * width;
                var input = new ReadOnlySpan<float>(x + at, width);
                if (addition.Delta != null)
                {
                    var sum = new Span<float>(addition.Sum + at, width);
                    TensorPrimitives.Add(input, new ReadOnlySpan<float>(addition.Delta + at, width), sum);
                    input = sum;
                }
                float scale = InverseRms(input, shape.Epsilon);
                var output = new Span<float>(y + at, width);
                TensorPrimitives.Multiply(input, scale, output);
                TensorPrimitives.Multiply(output, new ReadOnlySpan<float>(weight, width), output);
            }
        );
    }

    /// <summary>dx += r · (w·dy − x · r²/n · Σ(w·dy·x)), with r = 1 / rms.</summary>
    public static void InputGradient(float* x, float* weight, float* dy, float* dx, Shape shape)
    {
        int width = shape.Width;
        EachRow(
            shape.Rows,
            row =>
            {
                long at = (long)row * width;
                float r = InverseRms(new(x + at, width), shape.Epsilon),
                    dot = 0;
                float* xs = x + at,
                    dys = dy + at,
                    dxs = dx + at;
                int i = 0,
                    lanes = Vector<float>.Count;
                var sums = Vector<float>.Zero;
                for (; i <= width - lanes; i += lanes)
                    sums += Vector.Load(weight + i) * Vector.Load(dys + i) * Vector.Load(xs + i);
                dot = Vector.Sum(sums);
                for (; i < width; i++)
                    dot += weight[i] * dys[i] * xs[i];
                float slope = (float)((double)r * r * dot / width);
                for (i = 0; i <= width - lanes; i += lanes)
                    (
                        Vector.Load(dxs + i)
                        + r * (Vector.Load(weight + i) * Vector.Load(dys + i) - Vector.Load(xs + i) * slope)
                    ).Store(dxs + i);
                for (; i < width; i++)
                    dxs[i] += r * (weight[i] * dys[i] - xs[i] * slope);
            }
        );
    }

    /// <summary>dw += Σ over rows of dy · x / rms.</summary>
    public static void WeightGradient(float* x, float* dy, float* dWeight, Shape shape)
    {
        var (rows, width, epsilon) = shape;
        float* scales = (float*)System.Runtime.InteropServices.NativeMemory.Alloc((nuint)rows * sizeof(float));
        EachRow(rows, row => scales[row] = InverseRms(new(x + (long)row * width, width), epsilon));

        const int columns = 32; // each item sums its own columns over all rows: no two threads write the same sum
        CpuParallel.For(
            (width + columns - 1) / columns,
            item =>
            {
                int from = item * columns,
                    to = Math.Min(width, from + columns);
                double* sums = stackalloc double[columns];
                for (int i = 0; i < columns; i++)
                    sums[i] = 0;
                for (int row = 0; row < rows; row++)
                for (int i = from; i < to; i++)
                    sums[i - from] += (double)dy[(long)row * width + i] * x[(long)row * width + i] * scales[row];
                for (int i = from; i < to; i++)
                    dWeight[i] += (float)sums[i - from];
            }
        );
        System.Runtime.InteropServices.NativeMemory.Free(scales);
    }

    private static float InverseRms(ReadOnlySpan<float> row, double epsilon) =>
        (float)(1 / Math.Sqrt((double)TensorPrimitives.SumOfSquares(row) / row.Length + epsilon));

    private static void EachRow(int rows, Action<int> body) =>
        CpuParallel.For(
            (rows + RowsPerItem - 1) / RowsPerItem,
            item =>
            {
                for (int row = item * RowsPerItem; row < Math.Min(rows, (item + 1) * RowsPerItem); row++)
                    body(row);
            }
        );
}
