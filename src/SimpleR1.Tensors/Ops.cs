using SimpleR1.Tensors.Cpu;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Tensors;

/// <summary>
/// The operations a decoder is made of. Each checks its shapes, runs where its weights are, and, when a <see cref="Tape"/> is given, records its
/// gradient (on the CPU). Without a tape the results belong to the current dispose scope, on a GPU to its <see cref="Arena"/>. On the CPU all
/// is f32; on a GPU weights and activations are bf16, f16 or f32, and x [t, h], the residual stream, is f32. Shapes: t tokens, h hidden, v vocabulary.
/// </summary>
public static unsafe class Ops
{
    /// <summary>
    /// Alpha of additions on the tape: x + y and add_(y) would make one each time, which nobody frees (see build/KeepScalars.cs).
    /// </summary>
    internal static readonly TorchSharp.Scalar One = 1;

    /// <summary>Rows of a table: ids [t] int64, table [v, h] → [t, h].</summary>
    /// <exception cref="ArgumentOutOfRangeException">An id is outside the table.</exception>
    public static Tensor Embedding(Tape? tape, Tensor table, Tensor ids)
    {
        if (Gpu(tape, table) is { } gpu)
        {
            Require.On(gpu, table, [-1, -1], table.dtype);
            Require.On(gpu, ids, [-1], int64);
            return CudaOps.Embedding(gpu, table, ids);
        }
        Require.Floats(table, [-1, -1]);
        Require.Integers(ids, [-1]);
        var (rows, width, count) = (table.shape[0], (int)table.shape[1], (int)ids.shape[0]);
        var idSpan = new ReadOnlySpan<long>((void*)Aten.DataPointer(ids), count);
        foreach (long id in idSpan)
            if ((ulong)id >= (ulong)rows)
                throw new ArgumentOutOfRangeException(
                    nameof(ids),
                    $"token id {id} is outside the vocabulary of {rows}"
                );
        var output = table.index_select(0, ids);
        tape?.Record(
            [output],
            () =>
            {
                using var gradient = tape.TakeGradient(output);
                if (tape.ParameterGradient(table) is { } place)
                    place.index_add_(0, ids, gradient, One);
            }
        );
        return output;
    }

    /// <summary>x·Wᵀ + b: x [t, in], weight [out, in], bias [out] or null → [t, out].</summary>
    public static Tensor Linear(Tape? tape, Tensor x, Tensor weight, Tensor? bias = null)
    {
        if (Gpu(tape, weight) is { } gpu)
        {
            RequireProduct(gpu, x, weight, bias);
            return CudaOps.Linear(gpu, x, weight, bias);
        }
        Require.Floats(weight, [-1, x.shape[^1]]);
        Require.Floats(x, [-1, weight.shape[1]]);
        if (bias is not null)
            Require.Floats(bias, [weight.shape[0]]);
        var (rows, outputs, inputs) = ((int)x.shape[0], (int)weight.shape[0], (int)weight.shape[1]);
        var output = empty(rows, outputs, dtype: float32);
        Cpu.Linear.Forward(Floats(x), Floats(weight), FloatsOrNull(bias), Floats(output), rows, outputs, inputs);
        tape?.Record(
            [output],
            () =>
            {
                using var gradient = tape.TakeGradient(output);
                var (rows, outputs, inputs) = ((int)x.shape[0], (int)weight.shape[0], (int)weight.shape[1]);
                var dx = empty_like(x);
                LinearGradient.Input(Floats(gradient), Floats(weight), Floats(dx), rows, outputs, inputs);
                if (tape.ParameterGradient(weight) is { } place)
                    LinearGradient.Weight(Floats(gradient), Floats(x), Floats(place), rows, outputs, inputs);
                tape.Accumulate(x, dx);
                if (bias is not null && tape.ParameterGradient(bias) is { } biasPlace)
                    biasPlace.add_(gradient.sum([0L]), One);
            }
        );
        return output;
    }

    /// <summary>The same without bias into memory of the caller's: output [t, out], f32 or of the weights' type.</summary>
    public static void LinearInto(Tensor x, Tensor weight, Tensor output)
    {
        if (CudaDevice.Of(weight) is { } gpu)
        {
            RequireProduct(gpu, x, weight, null);
            Require.On(gpu, output, [x.shape[0], weight.shape[0]], output.dtype == float32 ? float32 : weight.dtype);
            CudaOps.Linear(gpu, x, weight, null, output);
            return;
        }
        Require.Floats(weight, [-1, x.shape[^1]]);
        Require.Floats(x, [-1, weight.shape[1]]);
        Require.Floats(output, [x.shape[0], weight.shape[0]]);
        Cpu.Linear.Forward(
            Floats(x),
            Floats(weight),
            null,
            Floats(output),
            (int)x.shape[0],
            (int)weight.shape[0],
            (int)weight.shape[1]
        );
    }

    /// <summary>x / rms(x) · weight over the last dimension: x [t, h], weight [h] → [t, h].</summary>
    public static Tensor RmsNorm(Tape? tape, Tensor x, Tensor weight, double epsilon)
    {
        if (Gpu(tape, weight) is { } gpu)
        {
            RequireNorm(gpu, x, null, weight);
            return CudaOps.AddRmsNorm(gpu, x, null, weight, epsilon).Normed;
        }
        Require.Floats(weight, [x.shape[^1]]);
        Require.Floats(x, [-1, weight.shape[0]]);
        var (rows, width) = ((int)x.shape[0], (int)x.shape[1]);
        var output = empty_like(x);
        Cpu.RmsNorm.Forward(Floats(x), null, null, Floats(weight), Floats(output), rows, width, epsilon);
        tape?.Record(
            [output],
            () =>
            {
                using var gradient = tape.TakeGradient(output);
                var dx = zeros_like(x);
                Cpu.RmsNorm.Backward(
                    Floats(x),
                    Floats(weight),
                    Floats(gradient),
                    Floats(dx),
                    FloatsOrNull(tape.ParameterGradient(weight)),
                    rows,
                    width,
                    epsilon
                );
                tape.Accumulate(x, dx);
            }
        );
        return output;
    }

    /// <summary>The residual stream's step: sum = x + delta, and sum's RMS norm. Both [t, h]. <paramref name="delta"/> is used up.</summary>
    public static (Tensor Sum, Tensor Normed) AddRmsNorm(
        Tape? tape,
        Tensor x,
        Tensor delta,
        Tensor weight,
        double epsilon
    )
    {
        if (Gpu(tape, weight) is { } gpu)
        {
            RequireNorm(gpu, x, delta, weight);
            return CudaOps.AddRmsNorm(gpu, x, delta, weight, epsilon);
        }
        Require.Floats(weight, [x.shape[^1]]);
        Require.Floats(x, [-1, weight.shape[0]]);
        Require.Floats(delta, x.shape);
        var (rows, width) = ((int)x.shape[0], (int)x.shape[1]);
        Tensor sum = empty_like(x),
            normed = empty_like(x);
        Cpu.RmsNorm.Forward(
            Floats(x),
            Floats(delta),
            Floats(sum),
            Floats(weight),
            Floats(normed),
            rows,
            width,
            epsilon
        );
        tape?.Record(
            [sum, normed],
            () =>
            {
                using var gradient = tape.TakeGradient(normed);
                var dSum = tape.TakeGradient(sum);
                Cpu.RmsNorm.Backward(
                    Floats(sum),
                    Floats(weight),
                    Floats(gradient),
                    Floats(dSum),
                    FloatsOrNull(tape.ParameterGradient(weight)),
                    rows,
                    width,
                    epsilon
                );
                tape.Accumulate(delta, dSum.alias()); // shared, as in Add
                tape.Accumulate(x, dSum);
            }
        );
        return (sum, normed);
    }

    /// <summary>Qwen3's norm of each q and k head: qkv [t, (heads + 2·kvHeads)·d] → the same with q and k heads RMS-normalised.</summary>
    public static Tensor QueryKeyNorm(
        Tape? tape,
        Tensor qkv,
        Tensor queryWeight,
        Tensor keyWeight,
        int heads,
        int keyValueHeads,
        double epsilon
    )
    {
        long d = queryWeight.shape[0],
            tokens = qkv.shape[0],
            querySize = heads * d,
            keySize = keyValueHeads * d;
        Require.Floats(qkv, [-1, querySize + 2 * keySize]);
        Require.Floats(queryWeight, [d]);
        Require.Floats(keyWeight, [d]);
        Tensor q,
            k,
            output;
        using (NewDisposeScope())
        {
            q = qkv.narrow(1, 0, querySize).contiguous().view(-1, d).MoveToOuterDisposeScope();
            k = qkv.narrow(1, querySize, keySize).contiguous().view(-1, d).MoveToOuterDisposeScope();
            var normedQ = RmsNorm(null, q, queryWeight, epsilon).view(tokens, querySize);
            var normedK = RmsNorm(null, k, keyWeight, epsilon).view(tokens, keySize);
            output = cat([normedQ, normedK, qkv.narrow(1, querySize + keySize, keySize)], 1).MoveToOuterDisposeScope();
        }
        tape?.Record(
            [output, q, k],
            () =>
            {
                using var gradient = tape.TakeGradient(output);
                Tensor Back(Tensor x, Tensor weight, long from, long size)
                {
                    var dy = gradient.narrow(1, from, size).contiguous();
                    var dx = zeros_like(x);
                    Cpu.RmsNorm.Backward(
                        Floats(x),
                        Floats(weight),
                        Floats(dy),
                        Floats(dx),
                        FloatsOrNull(tape.ParameterGradient(weight)),
                        (int)x.shape[0],
                        (int)d,
                        epsilon
                    );
                    return dx.view(tokens, size);
                }
                tape.Accumulate(
                    qkv,
                    cat(
                        [
                            Back(q, queryWeight, 0, querySize),
                            Back(k, keyWeight, querySize, keySize),
                            gradient.narrow(1, querySize + keySize, keySize),
                        ],
                        1
                    )
                );
            }
        );
        return output;
    }

    /// <summary>Rotates the q and k heads of qkv [t, (heads + 2·kvHeads)·d] IN PLACE by each token's position and returns it.</summary>
    /// <param name="rotatedHeads">heads + kvHeads</param>
    /// <param name="cosine">[positions, d/2] f32; likewise <paramref name="sine"/></param>
    public static Tensor Rotary(
        Tape? tape,
        Tensor qkv,
        Tensor positions,
        Tensor cosine,
        Tensor sine,
        int rotatedHeads,
        int headDimension
    )
    {
        Require.Floats(qkv, [-1, -1]);
        Require.Integers(positions, [qkv.shape[0]]);
        Require.Floats(cosine, [-1, headDimension / 2]);
        Require.Floats(sine, cosine.shape);
        var (rows, stride, limit) = ((int)qkv.shape[0], (int)qkv.shape[1], cosine.shape[0]);
        foreach (long position in new ReadOnlySpan<long>((void*)Aten.DataPointer(positions), rows))
            if ((ulong)position >= (ulong)limit)
                throw new ArgumentOutOfRangeException(
                    nameof(positions),
                    $"position {position} is outside the model's context of {limit}"
                );
        void Rotate(Tensor x, float direction) =>
            Cpu.Rotary.Rotate(
                Floats(x),
                (long*)Aten.DataPointer(positions),
                Floats(cosine),
                Floats(sine),
                rows,
                rotatedHeads,
                headDimension,
                stride,
                direction
            );
        Rotate(qkv, 1);
        tape?.Record(
            [],
            () =>
            {
                var gradient = tape.TakeGradient(qkv);
                Rotate(gradient, -1);
                tape.Accumulate(qkv, gradient);
            }
        );
        return qkv;
    }

    /// <summary>Causal attention of sequences packed one after another: qkv [t, (heads + 2·kvHeads)·d] → [t, heads·d].</summary>
    /// <param name="offsets">First token of each sequence, then t.</param>
    public static Tensor PackedAttention(
        Tape? tape,
        Tensor qkv,
        int[] offsets,
        int heads,
        int keyValueHeads,
        int headDimension
    )
    {
        var shape = new Cpu.PackedAttentionKernel.Shape(heads, keyValueHeads, headDimension);
        Require.Floats(qkv, [offsets[^1], shape.QkvRow]);
        var output = empty(qkv.shape[0], shape.OutputRow, dtype: float32);
        if (tape is null)
        {
            Cpu.PackedAttentionKernel.Forward(Floats(qkv), Floats(output), null, offsets, shape);
            return output;
        }
        var logSum = empty(qkv.shape[0], heads, dtype: float32);
        Cpu.PackedAttentionKernel.Forward(Floats(qkv), Floats(output), Floats(logSum), offsets, shape);
        tape.Record(
            [output, logSum],
            () =>
            {
                using var gradient = tape.TakeGradient(output);
                var dQkv = zeros_like(qkv);
                Cpu.PackedAttentionKernel.Backward(
                    Floats(qkv),
                    Floats(output),
                    Floats(logSum),
                    Floats(gradient),
                    Floats(dQkv),
                    offsets,
                    shape
                );
                tape.Accumulate(qkv, dQkv);
            }
        );
        return output;
    }

    /// <summary>silu(gate)·up: gateUp [t, 2·i] → [t, i].</summary>
    public static Tensor SwiGlu(Tape? tape, Tensor gateUp)
    {
        if (Gpu(tape, gateUp) is { } gpu)
        {
            Require.On(gpu, gateUp, [-1, -1], gateUp.dtype);
            return CudaOps.SwiGlu(gpu, gateUp);
        }
        Require.Floats(gateUp, [-1, -1]);
        var (rows, width) = ((int)gateUp.shape[0], (int)gateUp.shape[1] / 2);
        var output = empty(rows, width, dtype: float32);
        Cpu.SwiGlu.Forward(Floats(gateUp), Floats(output), rows, width);
        tape?.Record(
            [output],
            () =>
            {
                using var gradient = tape.TakeGradient(output);
                var dGateUp = empty_like(gateUp);
                Cpu.SwiGlu.Backward(Floats(gateUp), Floats(gradient), Floats(dGateUp), rows, width);
                tape.Accumulate(gateUp, dGateUp);
            }
        );
        return output;
    }

    /// <summary>silu(x·gateᵀ)·(x·upᵀ): x [t, h], weight [2·i, h] (gate, then up) → [t, i].</summary>
    public static Tensor GatedLinear(Tape? tape, Tensor x, Tensor weight)
    {
        if (Gpu(tape, weight) is not { } gpu)
            return SwiGlu(tape, Linear(tape, x, weight));
        RequireProduct(gpu, x, weight, null);
        return CudaOps.GatedLinear(gpu, x, weight);
    }

    /// <summary>Chosen rows of x: x [t, h], indices [r] int64, all different → [r, h].</summary>
    public static Tensor SelectRows(Tape? tape, Tensor x, Tensor indices)
    {
        if (Gpu(tape, x) is { } gpu)
        {
            Require.On(gpu, x, [-1, -1], x.dtype);
            Require.On(gpu, indices, [-1], int64);
            return CudaOps.SelectRows(gpu, x, indices);
        }
        Require.Floats(x, [-1, -1]);
        Require.Integers(indices, [-1]);
        var output = x.index_select(0, indices);
        tape?.Record(
            [output],
            () =>
            {
                using var gradient = tape.TakeGradient(output);
                tape.Accumulate(x, zeros_like(x).index_add_(0, indices, gradient, One));
            }
        );
        return output;
    }

    /// <summary>Logits' bytes that may stay alive between forward and backward; beyond, chunks of logits are made again.</summary>
    private const long LogitsKept = 512L << 20;
    private const long LogitsPerChunk = 64L << 20;

    /// <summary>
    /// log softmax(x·Wᵀ / temperature)[chosen] and the entropy of each row, without holding all logits of a large vocabulary:
    /// x [r, h], weight [v, h], chosen [r] int64 → two [r] tensors. The entropy carries no gradient.
    /// </summary>
    public static (Tensor LogProbs, Tensor Entropy) TokenLogProbs(
        Tape? tape,
        Tensor x,
        Tensor weight,
        Tensor chosen,
        double temperature
    )
    {
        Require.Floats(weight, [-1, x.shape[^1]]);
        Require.Floats(x, [-1, weight.shape[1]]);
        Require.Integers(chosen, [x.shape[0]]);
        if (temperature <= 0)
            throw new ArgumentOutOfRangeException(
                nameof(temperature),
                $"expected a temperature above 0, found {temperature}"
            );
        long rows = x.shape[0],
            vocabulary = weight.shape[0];
        foreach (long id in new ReadOnlySpan<long>((void*)Aten.DataPointer(chosen), (int)rows))
            if ((ulong)id >= (ulong)vocabulary)
                throw new ArgumentOutOfRangeException(
                    nameof(chosen),
                    $"token id {id} is outside the vocabulary of {vocabulary}"
                );
        bool keep = tape is not null && rows * vocabulary * 4 <= LogitsKept;
        int chunk = (int)Math.Clamp(LogitsPerChunk / 4 / vocabulary, 1, Math.Max(1, rows));
        Tensor logProbs = empty(rows, dtype: float32),
            entropy = empty(rows, dtype: float32),
            logSum = empty(rows, dtype: float32);
        var kept = new List<Tensor>();
        long* ids = (long*)Aten.DataPointer(chosen);
        for (long from = 0; from < rows; from += chunk)
        {
            int count = (int)Math.Min(chunk, rows - from);
            using var scope = NewDisposeScope();
            var logits = Linear(null, x.narrow(0, from, count), weight); // [count, vocabulary]
            LogProbs.Forward(
                Floats(logits),
                ids + from,
                Floats(logProbs) + from,
                Floats(logSum) + from,
                Floats(entropy) + from,
                count,
                (int)vocabulary,
                (float)temperature
            );
            if (keep)
                kept.Add(logits.DetachFromDisposeScope());
        }
        if (tape is null)
        {
            logSum.Dispose();
            return (logProbs, entropy);
        }
        tape.Record(
            [logProbs, entropy, logSum, .. kept],
            () =>
            {
                using var gradient = tape.TakeGradient(logProbs);
                var dx = empty_like(x);
                var place = tape.ParameterGradient(weight);
                for (long from = 0, i = 0; from < rows; from += chunk, i++)
                {
                    int count = (int)Math.Min(chunk, rows - from);
                    using var scope = NewDisposeScope();
                    var part = x.narrow(0, from, count);
                    var logits = keep ? kept[(int)i] : Linear(null, part, weight);
                    LogProbs.Backward(
                        Floats(logits),
                        ids + from,
                        Floats(logSum) + from,
                        Floats(gradient) + from,
                        count,
                        (int)vocabulary,
                        (float)temperature
                    );
                    int width = (int)x.shape[1];
                    LinearGradient.Input(
                        Floats(logits),
                        Floats(weight),
                        Floats(dx) + from * width,
                        count,
                        (int)vocabulary,
                        width
                    );
                    if (place is not null)
                        LinearGradient.Weight(
                            Floats(logits),
                            Floats(part),
                            Floats(place),
                            count,
                            (int)vocabulary,
                            width
                        );
                }
                tape.Accumulate(x, dx);
            }
        );
        return (logProbs, entropy);
    }

    /// <summary>One AdamW step on ranges of flat f32 buffers (weight, gradient, both moments); see <see cref="Cpu.AdamW"/> for the formula.</summary>
    public static void AdamWStep(
        Tensor weight,
        Tensor gradient,
        Tensor mean,
        Tensor variance,
        long from,
        long length,
        long step,
        double learningRate,
        double beta1,
        double beta2,
        double epsilon,
        double weightDecay,
        double gradientScale
    )
    {
        Require.Floats(weight, [-1]);
        foreach (var other in new[] { gradient, mean, variance })
            Require.Floats(other, weight.shape);
        if (from < 0 || length < 0 || from + length > weight.shape[0])
            throw new ArgumentOutOfRangeException(
                nameof(length),
                $"range {from}+{length} is outside the buffer of {weight.shape[0]}"
            );
        AdamW.Step(
            Floats(weight) + from,
            Floats(gradient) + from,
            Floats(mean) + from,
            Floats(variance) + from,
            length,
            step,
            learningRate,
            beta1,
            beta2,
            epsilon,
            weightDecay,
            gradientScale
        );
    }

    /// <summary>√Σx² of a flat buffer, the same on any number of threads.</summary>
    public static double Norm(Tensor x)
    {
        Require.Floats(x, [-1]);
        return Math.Sqrt(AdamW.SumOfSquares(Floats(x), x.shape[0]));
    }

    private static CudaDevice? Gpu(Tape? tape, Tensor weights)
    {
        var gpu = CudaDevice.Of(weights);
        if (gpu is not null && tape is not null)
            throw new NotSupportedException("gradients are computed on the CPU only; train with weights on the CPU");
        return gpu;
    }

    private static void RequireProduct(CudaDevice gpu, Tensor x, Tensor weight, Tensor? bias)
    {
        Require.On(gpu, weight, [-1, x.shape[^1]], weight.dtype);
        Require.On(gpu, x, [-1, weight.shape[1]], weight.dtype);
        if (bias is not null)
            Require.On(gpu, bias, [weight.shape[0]], weight.dtype);
    }

    private static void RequireNorm(CudaDevice gpu, Tensor x, Tensor? delta, Tensor weight)
    {
        Require.On(gpu, weight, [x.shape[^1]], weight.dtype);
        Require.On(gpu, x, [-1, weight.shape[0]], float32);
        if (delta is not null)
            Require.On(gpu, delta, x.shape, weight.dtype);
    }

    private static float* Floats(Tensor tensor) => (float*)Aten.DataPointer(tensor);

    private static float* FloatsOrNull(Tensor? tensor) => tensor is null ? null : Floats(tensor);
}
