using SimpleR1.Models;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Training.Policy;

/// <summary>A loss or gradient that is not a number: training stopped before the optimizer touched the weights.</summary>
public sealed class NonFiniteException(string message) : InvalidOperationException(message);

/// <summary>Means over the trained tokens of one update, and what it cost.</summary>
public sealed record UpdateStatistics(
    double Loss,
    double Entropy,
    double GradientNorm,
    double LearningRate,
    long Tokens,
    double Seconds
)
{
    /// <summary>What the algorithm reported, by name (clip fraction, KL, …).</summary>
    public required IReadOnlyDictionary<string, double> Report { get; init; }
}

/// <summary>
/// The model being trained: weights, gradient and optimizer on flat buffers. Knows no algorithm: it turns sequences into log-probs,
/// a loss on them into gradients, and gradients into a step. One thread only.
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
            int at = 0;
            foreach (var sequence in part)
                result.Add(all[at..(at += sequence.Trained)]);
        }
        return [.. result];
    }

    /// <summary>One optimizer step: gradients of all micro-batches add up, then clip, then AdamW.</summary>
    /// <param name="step">Named when something is not finite.</param>
    /// <param name="loss">Range of sequences in a micro-batch and their log-probs [trained] (with gradient) → scalar loss, and sums to report.</param>
    /// <exception cref="NonFiniteException">The loss or the gradient norm is not finite; the weights are as before.</exception>
    public UpdateStatistics Update(
        IReadOnlyList<TrainingSequence> sequences,
        double temperature,
        int step,
        double learningRate,
        Func<Range, Tensor, (Tensor Loss, Dictionary<string, Tensor> Report)> loss
    )
    {
        long start = System.Diagnostics.Stopwatch.GetTimestamp(),
            tokens = sequences.Sum(s => (long)s.Computed);
        double lossSum = 0,
            entropySum = 0;
        var report = new SortedDictionary<string, double>(StringComparer.Ordinal);
        optimizer.Gradient.zero_();
        int microBatch = 0;
        foreach (var range in PackedBatch.Split(sequences, options.TokensPerMicroBatch))
        {
            using var scope = NewDisposeScope();
            using var tape = new Tape();
            foreach (var slot in Weights.Layout.Slots)
                tape.Parameter(
                    Weights[slot.Name],
                    optimizer.Gradient.narrow(0, slot.Offset, slot.Length).view(slot.Shape)
                );
            using var batch = new PackedBatch([.. sequences.Take(range)]);
            var (logProbs, entropy) = batch.LogProbs(decoder, tape, temperature, options.GradientCheckpointing);
            var leaf = logProbs.detach().requires_grad_(true);
            var (value, parts) = loss(range, leaf);
            double microLoss = value.item<float>();
            if (!double.IsFinite(microLoss))
                throw new NonFiniteException(
                    $"step {step}, micro-batch {microBatch}: the loss is {microLoss}; the weights were not changed. {Diagnose(logProbs)}"
                );
            entropySum += entropy.sum().item<float>(); // before the tape frees it
            value.backward();
            tape.Backward(logProbs, leaf.grad!.alias());
            lossSum += microLoss;
            foreach (var (name, sum) in parts)
                report[name] = report.GetValueOrDefault(name) + sum.item<float>();
            microBatch++;
        }
        double norm = optimizer.GradientNorm();
        if (!double.IsFinite(norm))
            throw new NonFiniteException(
                $"step {step}: the gradient norm is {norm} after {microBatch} micro-batches with a finite loss ({lossSum:G4}); the weights were not changed. Lower the learning rate, or look at the last rollouts."
            );
        optimizer.Step(norm, learningRate);
        return new(
            lossSum,
            entropySum / Math.Max(1, sequences.Sum(s => s.Trained)),
            norm,
            learningRate,
            tokens,
            System.Diagnostics.Stopwatch.GetElapsedTime(start).TotalSeconds
        )
        {
            Report = report,
        };
    }

    private static string Diagnose(Tensor logProbs) =>
        logProbs.isfinite().all().item<bool>()
            ? "All log-probs are finite: look at the algorithm's loss and at the advantages."
            : "Log-probs are not finite: the weights have diverged; lower the learning rate and resume from the last checkpoint.";

    public void Dispose()
    {
        optimizer.Dispose();
        decoder.Dispose();
    }
}
