using SimpleR1.Tensors.Operands;
using static TorchSharp.torch;

namespace SimpleR1.Tensors;

public static partial class Ops
{
    /// <summary>
    /// log softmax(x·Wᵀ / temperature)[chosen] and the entropy of each row, without holding all logits of a large
    /// vocabulary: x [r, h], weight [v, h], r chosen tokens → two [r] tensors. The entropy carries no gradient.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">A chosen token is outside the vocabulary, or the temperature is
    /// not above 0.</exception>
    public static (Tensor LogProbs, Tensor Entropy) TokenLogProbs(
        Tape? tape,
        Tensor x,
        Tensor weight,
        TokenChoice choice,
        HeadMemory memory
    )
    {
        var kernels = IKernels.Of(weight);
        RequireProduct(kernels, x, weight, null);
        Require.On(kernels, choice.Tokens, [x.shape[0]], int64);
        if (choice.Temperature <= 0)
            throw new ArgumentOutOfRangeException(
                nameof(choice),
                $"expected a temperature above 0, found {choice.Temperature}"
            );

        var head = new OutputHead(kernels, weight, memory);
        long rows = x.shape[0];
        bool keep = tape is not null && rows * weight.shape[0] * 4 <= memory.Kept;
        var kept = new List<Tensor>();
        var result = new TokenDistribution(
            LogProbs: kernels.Allocate([rows], float32),
            LogSum: kernels.Allocate([rows], float32),
            Entropy: kernels.Allocate([rows], float32)
        );

        foreach (var (first, count) in head.Chunks(rows))
        {
            using var scope = NewDisposeScope();
            var logits = head.Logits(x.narrow(0, first, count));
            kernels.LogProbs(logits, choice.Rows(first, count), result.Rows(first, count));
            if (keep)
                kept.Add(logits.DetachFromDisposeScope());
        }

        if (tape is null)
            result.LogSum.Dispose();
        else
            tape.Record(
                [result.LogProbs, result.Entropy, result.LogSum, .. kept],
                () =>
                {
                    using var dLogProbs = tape.TakeGradient(result.LogProbs);
                    var gradient = new TokenGradient(dLogProbs, result.LogSum, kept);
                    tape.Accumulate(x, head.Gradient(tape, x, choice, gradient));
                }
            );
        return (result.LogProbs, result.Entropy);
    }

    /// <summary>The output projection, some rows at a time.</summary>
    private sealed class OutputHead(IKernels kernels, Tensor weight, HeadMemory memory)
    {
        private readonly long vocabulary = weight.shape[0];

        /// <summary>First row and number of rows of each chunk.</summary>
        public IEnumerable<(long First, long Count)> Chunks(long rows)
        {
            long chunk = Math.Clamp(memory.PerChunk / 4 / vocabulary, 1, Math.Max(1, rows));
            for (long first = 0; first < rows; first += chunk)
                yield return (first, Math.Min(chunk, rows - first));
        }

        /// <summary>x [r, h] → [r, v] f32</summary>
        public Tensor Logits(Tensor x)
        {
            var logits = kernels.Allocate([x.shape[0], vocabulary], float32);
            kernels.Linear(x, weight, null, logits);
            return logits;
        }

        /// <summary>dx; adds the weight's gradient where it is trained. Kept logits are overwritten.</summary>
        public Tensor Gradient(Tape tape, Tensor x, TokenChoice choice, TokenGradient gradient)
        {
            var dx = kernels.Allocate(x.shape, x.dtype);
            var dWeight = tape.ParameterGradient(weight);
            foreach (var ((first, count), chunk) in Chunks(x.shape[0]).Select((rows, chunk) => (rows, chunk)))
            {
                using var scope = NewDisposeScope();
                var part = x.narrow(0, first, count);
                using var logits = gradient.Kept.Count > 0 ? gradient.Kept[chunk] : Logits(part);
                var dLogits = kernels.LogProbsGradient(
                    logits,
                    choice.Rows(first, count),
                    gradient.LogSum.narrow(0, first, count),
                    gradient.LogProbs.narrow(0, first, count),
                    weight.dtype
                );
                kernels.LinearInputGradient(dLogits, weight, dx.narrow(0, first, count));
                if (dWeight is not null)
                    kernels.LinearWeightGradient(dLogits, part, dWeight);
            }
            return dx;
        }
    }

    /// <param name="LogProbs">d loss / d log-probs: [r]</param>
    /// <param name="LogSum">The forward pass's.</param>
    /// <param name="Kept">The forward pass's logits by chunk; none where they are made again.</param>
    private readonly record struct TokenGradient(Tensor LogProbs, Tensor LogSum, List<Tensor> Kept);
}
