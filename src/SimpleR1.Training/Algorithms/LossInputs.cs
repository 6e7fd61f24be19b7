using SimpleR1.Training.Policy;
using static TorchSharp.torch;

namespace SimpleR1.Training.Algorithms;

/// <summary>
/// What a loss sees of all trained tokens of an optimizer step, made before the step begins: a GPU waits while a loss is
/// taken, so that what a micro-batch needs is a view.
/// </summary>
internal sealed class LossInputs : IDisposable
{
    private readonly int[] tokensBefore; // of each sample, then of all
    private readonly List<Tensor> kept = [];
    private readonly Tensor engineLogProbs;
    private readonly Tensor? oldLogProbs;
    private readonly Tensor? referenceLogProbs;
    private readonly Tensor advantages;
    private readonly Tensor weights;
    private readonly Tensor weightVersions;
    private readonly Tensor sample;

    public LossInputs(TrainingSample[] samples)
    {
        tokensBefore = new int[samples.Length + 1];
        for (int i = 0; i < samples.Length; i++)
            tokensBefore[i + 1] = tokensBefore[i] + samples[i].Sequence.Trained;

        engineLogProbs = Keep(tensor(Trained(samples, s => s.EngineLogProbs)));
        if (samples[0].OldLogProbs is not null)
            oldLogProbs = Keep(tensor(Trained(samples, s => s.OldLogProbs!)));
        if (samples[0].ReferenceLogProbs is not null)
            referenceLogProbs = Keep(tensor(Trained(samples, s => s.ReferenceLogProbs!)));
        advantages = Keep(tensor(Trained(samples, s => s.Advantages)));
        weights = Keep(tensor(Trained(samples, s => s.Weights)));
        weightVersions = Keep(tensor(Trained(samples, s => s.WeightVersions), dtype: int64));
        sample = Keep(tensor(SampleOfTokens()));
    }

    private Tensor Keep(Tensor tensor)
    {
        kept.Add(tensor.DetachFromDisposeScope());
        return tensor;
    }

    /// <param name="range">Samples whose loss is taken together.</param>
    /// <param name="logProbs">Of their trained tokens: [tokens], with gradient.</param>
    public LossInput Of(Range range, Tensor logProbs)
    {
        var (first, end) = (range.Start.Value, range.End.Value);
        return new()
        {
            LogProbs = logProbs,
            OldLogProbs = oldLogProbs is null ? logProbs.detach() : Part(oldLogProbs),
            EngineLogProbs = Part(engineLogProbs),
            ReferenceLogProbs = referenceLogProbs is null ? null : Part(referenceLogProbs),
            Advantages = Part(advantages),
            Weights = Part(weights),
            WeightVersions = Part(weightVersions),
            Sample = Part(sample) - first,
            Samples = end - first,
        };

        Tensor Part(Tensor whole) => whole.narrow(0, tokensBefore[first], tokensBefore[end] - tokensBefore[first]);
    }

    /// <summary>The values of the trained tokens, one sample after another.</summary>
    private T[] Trained<T>(TrainingSample[] samples, Func<TrainingSample, T[]> values)
    {
        var all = new T[tokensBefore[^1]];
        int next = 0;
        foreach (var sample in samples)
        {
            var ofSample = values(sample);
            foreach (int position in sample.Sequence.Positions)
                all[next++] = ofSample[position];
        }
        return all;
    }

    private long[] SampleOfTokens()
    {
        var samples = new long[tokensBefore[^1]];
        for (int i = 0; i + 1 < tokensBefore.Length; i++)
            samples.AsSpan(tokensBefore[i]..tokensBefore[i + 1]).Fill(i);
        return samples;
    }

    public void Dispose() => kept.ForEach(tensor => tensor.Dispose());
}
