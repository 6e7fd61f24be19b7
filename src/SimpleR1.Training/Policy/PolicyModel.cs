using System.Diagnostics;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Operands;
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

    /// <summary>Of these, those that the host took for the losses, while a GPU has nothing to do.</summary>
    public double LossSeconds { get; init; }

    /// <summary>What the algorithm reported, by name (clip fraction, KL, …).</summary>
    public required IReadOnlyDictionary<string, double> Report { get; init; }
}

/// <summary>
/// Log-probs [trained] of some sequences, with gradient, in the host's memory → scalar loss, and sums to report.
/// </summary>
/// <param name="sequences">Which of the update's sequences.</param>
public delegate (Tensor Loss, Dictionary<string, Tensor> Report) SequenceLoss(Range sequences, Tensor logProbs);

/// <summary>
/// The model being trained: weights, gradient and optimizer on flat buffers. It knows no algorithm: it turns sequences
/// into log-probs, a loss on them into gradients, and gradients into a step. One thread only.
/// </summary>
/// <param name="memory">For activations, where the weights are on a GPU.</param>
public sealed class PolicyModel(Decoder decoder, Optimizer optimizer, PolicyOptions options, DevicePool? memory = null)
    : IDisposable
{
    private readonly CudaDevice? gpu = decoder.Weights.Device;

    public FlatWeights Weights => decoder.Weights;
    public Optimizer Optimizer => optimizer;
    public Decoder Decoder => decoder;

    /// <summary>log p of every trained token of each sequence under the current weights; no gradient.</summary>
    public float[][] LogProbs(IReadOnlyList<TrainingSequence> sequences, double temperature) =>
        LogProbs(decoder, sequences, temperature);

    /// <summary>The same under the weights of another model on the same device.</summary>
    public float[][] LogProbs(Decoder model, IReadOnlyList<TrainingSequence> sequences, double temperature) =>
        LogProbs(model, sequences, temperature, options, memory);

    /// <inheritdoc cref="LogProbs(Decoder, IReadOnlyList{TrainingSequence}, double)"/>
    public static float[][] LogProbs(
        Decoder model,
        IReadOnlyList<TrainingSequence> sequences,
        double temperature,
        PolicyOptions options,
        DevicePool? memory = null
    )
    {
        var gpu = model.Weights.Device;
        using var results = memory?.Enter();
        var found = new List<float[]>(sequences.Count);
        foreach (var range in PackedBatch.Split(sequences, options.TokensPerMicroBatch))
        {
            using var scope = NewDisposeScope();
            var part = sequences.Take(range).ToArray();
            using var batch = new PackedBatch(part, gpu);
            var logProbs = batch.LogProbs(model, temperature, options.Head).LogProbs;
            logProbs = gpu?.ToHost(logProbs) ?? logProbs;
            float[] all = logProbs.data<float>().ToArray();
            int start = 0;
            foreach (var sequence in part)
            {
                found.Add(all[start..(start + sequence.Trained)]);
                start += sequence.Trained;
            }
        }
        return [.. found];
    }

    /// <summary>One optimizer step: gradients of all micro-batches add up, then clip, then AdamW.</summary>
    /// <param name="step">Named when something is not finite.</param>
    /// <exception cref="NonFiniteException">
    /// The loss or the gradient norm is not finite; the weights are as before.
    /// </exception>
    /// <exception cref="CudaOutOfMemoryException">
    /// A micro-batch needs more memory than there is for activations; the weights are as before.
    /// </exception>
    public UpdateStatistics Update(
        IReadOnlyList<TrainingSequence> sequences,
        double temperature,
        int step,
        double learningRate,
        SequenceLoss loss
    )
    {
        long start = Stopwatch.GetTimestamp();
        using var results = memory?.Enter();
        var sums = new UpdateSums(step);
        optimizer.ClearGradient();
        foreach (var range in PackedBatch.Split(sequences, options.TokensPerMicroBatch))
        {
            AddGradient([.. sequences.Take(range)], range.Start.Value, temperature, loss, sums);
            sums.MicroBatches++;
        }

        double norm = optimizer.GradientNorm();
        if (!double.IsFinite(norm))
            throw new NonFiniteException(
                $"step {step}: the gradient norm is {norm} after {sums.MicroBatches} micro-batches with a finite loss "
                    + $"({sums.Loss:G4}); the weights were not changed. Lower the learning rate, or look at the last rollouts."
            );
        optimizer.Step(norm, learningRate);
        gpu?.Synchronize();
        return new()
        {
            Loss = sums.Loss,
            Entropy = sums.Entropy / Math.Max(1, sequences.Sum(s => s.Trained)),
            GradientNorm = norm,
            LearningRate = learningRate,
            Tokens = sums.Tokens,
            TokensAsked = sequences.Sum(s => (long)s.Computed),
            Seconds = Stopwatch.GetElapsedTime(start).TotalSeconds,
            LossSeconds = sums.LossTime.Elapsed.TotalSeconds,
            Report = sums.Report,
        };
    }

    /// <summary>Forward, loss and backward of one micro-batch.</summary>
    /// <param name="first">Place of its first sequence among the update's.</param>
    private void AddGradient(
        TrainingSequence[] sequences,
        int first,
        double temperature,
        SequenceLoss loss,
        UpdateSums sums
    )
    {
        using var scope = NewDisposeScope();
        using var tape = NewTape();
        using var batch = new PackedBatch(sequences, gpu);
        sums.Tokens += batch.Computed;
        var hidden = batch.Hidden(decoder, tape, options.GradientCheckpointing); // [trained, hidden]
        Tensor? dHidden = null;
        foreach (var (part, row, count) in batch.Parts(options.Head.RowsPerLoss(decoder.Config.VocabularySize)))
        {
            using var partScope = NewDisposeScope();
            using var head = new Tape();
            head.Parameter(decoder.OutputWeight, tape.ParameterGradient(decoder.OutputWeight)!);
            bool isAll = count == hidden.shape[0];
            var x = isAll ? hidden : hidden.narrow(0, row, count);
            var choice = new TokenChoice(batch.Targets.narrow(0, row, count), temperature);
            var (logProbs, entropy) = Ops.TokenLogProbs(head, x, decoder.OutputWeight, choice, options.Head);

            var samples = (first + part.Start.Value)..(first + part.End.Value);
            var (onHost, entropyOnHost) = (OnHost(logProbs), OnHost(entropy));
            sums.LossTime.Start();
            var found = Slope(samples, onHost, entropyOnHost, loss, sums);
            sums.LossTime.Stop();
            if (found is not { } slope)
                continue;
            head.Backward(logProbs, OnDevice(slope));
            var dx = head.TakeGradient(x);
            partScope.Attach(dx);
            dHidden ??= (isAll ? dx : Ops.ZerosLike(hidden)).MoveToOuterDisposeScope();
            if (!isAll)
                Ops.Copy(dx, dHidden.narrow(0, row, count));
        }
        if (dHidden is not null)
            tape.Backward(hidden, dHidden);
    }

    /// <summary>d loss / d log-probs; null where the loss does not depend on them.</summary>
    private static Tensor? Slope(Range samples, Tensor logProbs, Tensor entropy, SequenceLoss loss, UpdateSums sums)
    {
        using var gradients = enable_grad();
        var leaf = logProbs.detach().requires_grad_(true);
        var (value, report) = loss(samples, leaf);
        double found = value.item<float>();
        if (!double.IsFinite(found))
            throw new NonFiniteException(
                $"step {sums.Step}, micro-batch {sums.MicroBatches}: the loss is {found}; "
                    + $"the weights were not changed. {Diagnose(logProbs)}"
            );
        sums.Add(found, entropy.sum().item<float>(), report);
        if (value.requires_grad)
            value.backward();
        return leaf.grad?.alias();
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

    /// <summary>A tensor of the policy in the host's memory: itself on the CPU, a copy from a GPU.</summary>
    internal Tensor OnHost(Tensor tensor) => gpu is null ? tensor : gpu.ToHost(tensor);

    private Tensor OnDevice(Tensor tensor) => gpu is null ? tensor : gpu.FromHost(tensor);

    /// <summary>Sums over the micro-batches of an update.</summary>
    private sealed class UpdateSums(int step)
    {
        public int Step => step;
        public int MicroBatches { get; set; }
        public long Tokens { get; set; }
        public Stopwatch LossTime { get; } = new();
        public double Loss { get; private set; }
        public double Entropy { get; private set; }
        public SortedDictionary<string, double> Report { get; } = new(StringComparer.Ordinal);

        public void Add(double loss, double entropy, Dictionary<string, Tensor> report)
        {
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
