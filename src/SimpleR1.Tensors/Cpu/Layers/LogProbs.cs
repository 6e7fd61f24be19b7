using System.Numerics;

namespace SimpleR1.Tensors.Cpu.Layers;

/// <summary>
/// Log-softmax of one chosen token a row, with the row's entropy, in one pass over the logits; and its gradient in
/// place.
/// </summary>
internal static unsafe class LogProbs
{
    internal readonly record struct Shape(int Rows, int Vocabulary, float Temperature);

    /// <summary>Three numbers a row.</summary>
    /// <param name="logSum">log Σ exp(logit / temperature)</param>
    /// <param name="entropy">In nats: log Σ exp(x) − Σ p·x.</param>
    internal readonly struct Result(float* logProb, float* logSum, float* entropy)
    {
        public readonly float* LogProb = logProb;
        public readonly float* LogSum = logSum;
        public readonly float* Entropy = entropy;
    }

    /// <param name="logits">[rows, vocabulary]</param>
    public static void Forward(float* logits, long* chosen, Result result, Shape shape)
    {
        var (rows, vocabulary, temperature) = shape;
        CpuParallel.For(
            rows,
            row =>
            {
                float* x = logits + (long)row * vocabulary;
                float scale = 1 / temperature,
                    max = System.Numerics.Tensors.TensorPrimitives.Max<float>(new(x, vocabulary)) * scale;
                int i = 0,
                    lanes = Vector<float>.Count;
                double sum = 0,
                    weighted = 0;

                // Partial sums of 4,096 terms go to doubles: f32 sums of 150,000 terms lose digits.
                while (i <= vocabulary - lanes)
                {
                    var part = Vector<float>.Zero;
                    var partWeighted = Vector<float>.Zero;
                    for (int end = Math.Min(vocabulary - lanes, i + 4096 - lanes); i <= end; i += lanes)
                    {
                        var shifted = Vector.Load(x + i) * scale - new Vector<float>(max);
                        var e = Vector.Exp(shifted);
                        part += e;
                        partWeighted += e * shifted;
                    }
                    sum += Vector.Sum(part);
                    weighted += Vector.Sum(partWeighted);
                }
                for (; i < vocabulary; i++)
                {
                    float shifted = x[i] * scale - max,
                        e = MathF.Exp(shifted);
                    sum += e;
                    weighted += (double)e * shifted;
                }

                double log = Math.Log(sum);
                result.LogSum[row] = (float)(max + log);
                result.LogProb[row] = (float)((double)x[chosen[row]] * scale - max - log);
                result.Entropy[row] = (float)(log - weighted / sum);
            }
        );
    }

    /// <summary>Replaces logits by d loss / d logits = dLogProb · (1[chosen] − p) / temperature.</summary>
    public static void Backward(float* logits, long* chosen, float* logSum, float* dLogProb, Shape shape)
    {
        var (rows, vocabulary, temperature) = shape;
        CpuParallel.For(
            rows,
            row =>
            {
                float* x = logits + (long)row * vocabulary;
                float scale = 1 / temperature,
                    slope = dLogProb[row] * scale,
                    log = logSum[row];
                int i = 0;
                for (; i <= vocabulary - Vector<float>.Count; i += Vector<float>.Count)
                    (Vector.Exp(Vector.Load(x + i) * scale - new Vector<float>(log)) * -slope).Store(x + i);
                for (; i < vocabulary; i++)
                    x[i] = MathF.Exp(x[i] * scale - log) * -slope;
                x[chosen[row]] += slope;
            }
        );
    }
}
