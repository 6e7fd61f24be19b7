using System.Numerics;

namespace SimpleR1.Tensors.Cpu.Layers;

/// <summary>silu(gate) · up over rows [gate | up] (Shazeer 2020, "GLU Variants Improve Transformer").</summary>
internal static unsafe class SwiGlu
{
    private const int RowsPerItem = 8;

    /// <param name="gateUp">[rows, 2 × width]</param>
    /// <param name="y">[rows, width]</param>
    public static void Forward(float* gateUp, float* y, int rows, int width) =>
        CpuParallel.For(
            (rows + RowsPerItem - 1) / RowsPerItem,
            item =>
            {
                for (int row = item * RowsPerItem; row < Math.Min(rows, (item + 1) * RowsPerItem); row++)
                {
                    float* gate = gateUp + (long)row * 2 * width,
                        up = gate + width,
                        output = y + (long)row * width;
                    int i = 0;
                    for (; i <= width - Vector<float>.Count; i += Vector<float>.Count)
                    {
                        var g = Vector.Load(gate + i);
                        (g / (Vector<float>.One + Vector.Exp(-g)) * Vector.Load(up + i)).Store(output + i);
                    }
                    for (; i < width; i++)
                        output[i] = gate[i] / (1 + MathF.Exp(-gate[i])) * up[i];
                }
            }
        );

    /// <summary>
    /// d gate = dy · up · σ(g) · (1 + g · (1 − σ(g))), d up = dy · g · σ(g), written to <paramref name="dGateUp"/>.
    /// </summary>
    public static void Backward(float* gateUp, float* dy, float* dGateUp, int rows, int width) =>
        CpuParallel.For(
            (rows + RowsPerItem - 1) / RowsPerItem,
            item =>
            {
                var one = Vector<float>.One;
                for (int row = item * RowsPerItem; row < Math.Min(rows, (item + 1) * RowsPerItem); row++)
                {
                    float* gate = gateUp + (long)row * 2 * width,
                        up = gate + width,
                        gradient = dy + (long)row * width;
                    float* dGate = dGateUp + (long)row * 2 * width,
                        dUp = dGate + width;
                    int i = 0;
                    for (; i <= width - Vector<float>.Count; i += Vector<float>.Count)
                    {
                        Vector<float> g = Vector.Load(gate + i),
                            d = Vector.Load(gradient + i),
                            sigmoid = one / (one + Vector.Exp(-g));
                        (d * Vector.Load(up + i) * sigmoid * (one + g * (one - sigmoid))).Store(dGate + i);
                        (d * g * sigmoid).Store(dUp + i);
                    }
                    for (; i < width; i++)
                    {
                        float sigmoid = 1 / (1 + MathF.Exp(-gate[i]));
                        dGate[i] = gradient[i] * up[i] * sigmoid * (1 + gate[i] * (1 - sigmoid));
                        dUp[i] = gradient[i] * gate[i] * sigmoid;
                    }
                }
            }
        );
}
