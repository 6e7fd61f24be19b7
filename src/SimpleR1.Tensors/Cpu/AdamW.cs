using System.Numerics;
using SimpleR1.Tensors.Operands;

namespace SimpleR1.Tensors.Cpu;

/// <summary>
/// Passes over flat f32 buffers: the AdamW update (Loshchilov and Hutter 2019) and the gradient's norm.
/// </summary>
internal static unsafe class AdamW
{
    private const int Chunk = 1 << 14;

    /// <summary>
    /// m ← β₁m + (1−β₁)g, v ← β₂v + (1−β₂)g², w ← w − lr·(m/(1−β₁ᵗ) / (√(v/(1−β₂ᵗ)) + ε) + λw); g is scaled by
    /// <see cref="AdamWSettings.GradientScale"/> first.
    /// </summary>
    public static void Step(Range range, long length, AdamWSettings settings)
    {
        float rate = (float)settings.Rate,
            root = (float)settings.RootScale,
            keep = (float)settings.Keep;
        float b1 = (float)settings.Beta1,
            b2 = (float)settings.Beta2,
            c1 = (float)(1 - settings.Beta1),
            c2 = (float)(1 - settings.Beta2),
            eps = (float)settings.Epsilon,
            scale = (float)settings.GradientScale;
        float* weight = range.Weight,
            gradient = range.Gradient,
            m = range.Mean,
            v = range.Variance;

        CpuParallel.For(
            (int)((length + Chunk - 1) / Chunk),
            item =>
            {
                long i = (long)item * Chunk,
                    end = Math.Min(length, i + Chunk);
                for (; i <= end - Vector<float>.Count; i += Vector<float>.Count)
                {
                    var g = Vector.Load(gradient + i) * scale;
                    var mean = Vector.Load(m + i) * b1 + g * c1;
                    var variance = Vector.Load(v + i) * b2 + g * g * c2;
                    mean.Store(m + i);
                    variance.Store(v + i);
                    (
                        Vector.Load(weight + i) * keep
                        - mean * rate / (Vector.SquareRoot(variance) * root + new Vector<float>(eps))
                    ).Store(weight + i);
                }
                for (; i < end; i++)
                {
                    float g = gradient[i] * scale;
                    m[i] = m[i] * b1 + g * c1;
                    v[i] = v[i] * b2 + g * g * c2;
                    weight[i] = weight[i] * keep - m[i] * rate / (MathF.Sqrt(v[i]) * root + eps);
                }
            }
        );
    }

    /// <summary>Σ x², summed in doubles over fixed chunks: the same on any number of threads.</summary>
    public static double SumOfSquares(float* x, long length)
    {
        var sums = new double[(length + Chunk - 1) / Chunk];
        CpuParallel.For(
            sums.Length,
            item =>
            {
                long from = (long)item * Chunk;
                sums[item] = System.Numerics.Tensors.TensorPrimitives.SumOfSquares<float>(
                    new(x + from, (int)Math.Min(Chunk, length - from))
                );
            }
        );
        return sums.Sum();
    }

    /// <summary>Where the update's four arrays begin.</summary>
    internal readonly struct Range(float* weight, float* gradient, float* mean, float* variance)
    {
        public readonly float* Weight = weight;
        public readonly float* Gradient = gradient;
        public readonly float* Mean = mean;
        public readonly float* Variance = variance;
    }
}
