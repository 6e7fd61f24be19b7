using System.Diagnostics;
using SimpleR1.Models;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Training.Policy;

/// <summary>A loss or gradient that is not a number: training stopped before the optimizer touched the weights.</summary>
public sealed class NonFiniteException(string message) : InvalidOperationException(message);

/// <summary>Means over the trained tokens of one update, and what it cost.</summary>
public sealed record UpdateStatistics
{
    public required double Loss { get; init; }

    /// <summary>Nats a token.</summary>
    public required double Entropy { get; init; }

    /// <summary>Before clipping.</summary>
    public required double GradientNorm { get; init; }
    public required double LearningRate { get; init; }

    /// <summary>Tokens computed, trained or not.</summary>
    public required long Tokens { get; init; }

    /// <summary>
    /// Tokens of all sequences, each computed from its first one: more than <see cref="Tokens"/> where prompts are
    /// shared or samples skipped.
    /// </summary>
    public required long TokensAsked { get; init; }
    public required double Seconds { get; init; }

    /// <summary>What the algorithm reported, by name (clip fraction, KL, …).</summary>
    public required IReadOnlyDictionary<string, double> Report { get; init; }
}

/// <summary>
/// The model being trained: weights, gradient and optimizer on flat buffers. It knows no algorithm: it turns sequences
/// into log-probs, a loss on them into gradients, and gradients into a step. One thread only.
/// </summary>
public sealed class PolicyModel(Decoder decoder, Optimizer optimizer, PolicyOptions options) : IDisposable
{
    public FlatWeights Weights => decoder.Weights;
    public Optimizer Optimizer => optimizer;
    public Decoder Decoder => decoder;

    /// <summary>log p of every trained token of each sequence under the current weights; no gradient.</summary>
    public float[][] LogProbs(IReadOnlyList<TrainingSequence> sequences, double temperature) =>
        LogProbs(decoder, sequences, temperature, options.TokensPerMicroBatch);

    /// <inheritdoc cref="LogProbs(IReadOnlyList{TrainingSequence}, double)"/>
    public static float[][] LogProbs(
        Decoder decoder,
        IReadOnlyList<TrainingSequence> sequences,
        double temperature,
        int tokensPerMicroBatch
    )
    {
        var result = new List<float[]>(sequences.Count);
        foreach (var range in PackedBatch.Split(sequences, tokensPerMicroBatch))
        {
            using var scope = NewDisposeScope();
            var part = sequences.Take(range).ToArray();
            using var batch = new PackedBatch(part);
            float[] all = batch.LogProbs(decoder, null, temperature).LogProbs.data<float>().ToArray();
            int start = 0;
            foreach (var sequence in part)
            {
                result.Add(all[start..(start + sequence.Trained)]);
                start += sequence.Trained;
            }
        }
        return [.. result];
    }

    /// <summary>One optimizer step: gradients of all micro-batches add up, then clip, then AdamW.</summary>
    /// <param name="step">Named when something is not finite.</param>
    /// <param name="loss">
    /// Range of sequences in a micro-batch and their log-probs [trained] (with gradient) → scalar loss, and sums to
    /// report.
    /// </param>
    /// <exception cref="NonFiniteException">
    /// The loss or the gradient norm is not finite; the weights are as before.
    /// </exception>
    public UpdateStatistics Update(
        IReadOnlyList<TrainingSequence> sequences,
        double temperature,
        int step,
        double learningRate,
        Func<Range, Tensor, (Tensor Loss, Dictionary<string, Tensor> Report)> loss
    )
    {
        long start = Stopwatch.GetTimestamp();
        var sums = new UpdateSums();
        optimizer.Gradient.zero_();
        foreach (var range in PackedBatch.Split(sequences, options.TokensPerMicroBatch))
        {
            using var scope = NewDisposeScope();
            using var tape = NewTape();
            using var batch = new PackedBatch([.. sequences.Take(range)]);
            sums.Tokens += batch.Computed;

            // Forward to log-probs, then the loss on them
            var (logProbs, entropy) = batch.LogProbs(decoder, tape, temperature, options.GradientCheckpointing);
            var leaf = logProbs.detach().requires_grad_(true);
            var (value, report) = loss(range, leaf);
            double microLoss = value.item<float>();
            if (!double.IsFinite(microLoss))
                throw new NonFiniteException(
                    $"step {step}, micro-batch {sums.MicroBatches}: the loss is {microLoss}; "
                        + $"the weights were not changed. {Diagnose(logProbs)}"
                );
            sums.Add(microLoss, entropy.sum().item<float>(), report); // before the tape frees the entropy

            // Backward: the loss by libtorch, the decoder by the tape. A loss of constants has no gradient.
            if (value.requires_grad)
                value.backward();
            if (leaf.grad is { } gradient)
                tape.Backward(logProbs, gradient.alias());
        }

        double norm = optimizer.GradientNorm();
        if (!double.IsFinite(norm))
            throw new NonFiniteException(
                $"step {step}: the gradient norm is {norm} after {sums.MicroBatches} micro-batches with a finite loss "
                    + $"({sums.Loss:G4}); the weights were not changed. Lower the learning rate, or look at the last rollouts."
            );
        optimizer.Step(norm, learningRate);
        return new()
        {
            Loss = sums.Loss,
            Entropy = sums.Entropy / Math.Max(1, sequences.Sum(s => s.Trained)),
            GradientNorm = norm,
            LearningRate = learningRate,
            Tokens = sums.Tokens,
            TokensAsked = sequences.Sum(s => (long)s.Computed),
            Seconds = Stopwatch.GetElapsedTime(start).TotalSeconds,
            Report = sums.Report,
        };
    }

    /// <summary>A tape that knows where each parameter's gradient goes.</summary>
    private Tape NewTape()
    {
        var tape = new Tape();
        foreach (var slot in Weights.Layout.Slots)
        {
            var gradient = optimizer.Gradient.narrow(0, slot.Offset, slot.Length).view(slot.Shape);
            tape.Parameter(Weights[slot.Name], gradient);
        }
        return tape;
    }

    /// <summary>Sums over the micro-batches of an update.</summary>
    private sealed class UpdateSums
    {
        public int MicroBatches { get; private set; }
        public long Tokens { get; set; }
        public double Loss { get; private set; }
        public double Entropy { get; private set; }
        public SortedDictionary<string, double> Report { get; } = new(StringComparer.Ordinal);

        public void Add(double loss, double entropy, Dictionary<string, Tensor> report)
        {
            MicroBatches++;
            Loss += loss;
            Entropy += entropy;
            foreach (var (name, sum) in report)
                Report[name] = Report.GetValueOrDefault(name) + sum.item<float>();
        }
    }

    private static string Diagnose(Tensor logProbs) =>
        logProbs.isfinite().all().item<bool>()
            ? "All log-probs are finite: look at the algorithm's loss and at the advantages."
            : "Log-probs are not finite: the weights have diverged; lower the learning rate and resume from the last "
                + "checkpoint.";

    public void Dispose()
    {
        optimizer.Dispose();
        decoder.Dispose();
    }
}
