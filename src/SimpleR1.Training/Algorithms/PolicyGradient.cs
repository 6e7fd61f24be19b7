using SimpleR1.Models;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Rollouts;
using static TorchSharp.torch;

namespace SimpleR1.Training.Algorithms;

/// <summary>A batch of scored rollouts → one or several updates of the policy by an <see cref="Algorithm"/>.</summary>
public sealed class PolicyGradient(
    PolicyModel policy,
    Algorithm algorithm,
    PolicyGradientOptions options,
    Decoder? reference
)
{
    /// <summary>May be set between two updates.</summary>
    public Algorithm Algorithm { get; set; } = algorithm;

    /// <summary>Makes options.Epochs × options.MiniBatches optimizer steps on the rollouts of one step.</summary>
    /// <param name="rollouts">All samples of all groups, in a fixed order (the order is part of what makes a run repeatable).</param>
    /// <returns>One entry per optimizer step.</returns>
    public IReadOnlyList<UpdateStatistics> Update(IReadOnlyList<Rollout> rollouts, int step, double learningRate)
    {
        var samples = Prepare(rollouts);
        var updates = new List<UpdateStatistics>();
        for (int epoch = 0; epoch < options.Epochs; epoch++)
            foreach (var miniBatch in MiniBatches(samples))
                updates.Add(
                    policy.Update(
                        [.. miniBatch.Select(s => s.Sequence)],
                        options.Temperature,
                        step,
                        learningRate,
                        (range, logProbs) =>
                        {
                            var part = miniBatch.Take(range).ToArray();
                            Tensor Values(Func<Sample, IEnumerable<float>> of) => tensor(part.SelectMany(of).ToArray());
                            return Algorithm.Loss(
                                new LossInput
                                {
                                    LogProbs = logProbs,
                                    OldLogProbs = samples[0].Old is null ? logProbs.detach() : Values(s => s.Old!),
                                    EngineLogProbs = Values(s => s.Engine),
                                    ReferenceLogProbs = reference is null ? null : Values(s => s.Reference!),
                                    Advantages = Values(s => s.Advantages),
                                    Weights = Values(s => Enumerable.Repeat(Weight(s, miniBatch), s.Sequence.Trained)),
                                }
                            );
                        }
                    )
                );
        return updates;
    }

    /// <summary>Per trained token: its advantage and its log-probs under the engine, the weights before the update, and the reference.</summary>
    private sealed record Sample(
        TrainingSequence Sequence,
        float[] Advantages,
        float[] Engine,
        float[]? Old,
        float[]? Reference
    );

    private List<Sample> Prepare(IReadOnlyList<Rollout> rollouts)
    {
        var advantages = new Dictionary<Rollout, float[]>(ReferenceEqualityComparer.Instance);
        foreach (var group in rollouts.GroupBy(r => r.Group))
        {
            var members = group.ToArray();
            var values = Algorithm.Advantages(members);
            for (int i = 0; i < members.Length; i++)
                advantages[members[i]] =
                    values[i].Length == 1 ? [.. Enumerable.Repeat(values[i][0], members[i].Tokens.Length)] : values[i];
        }
        TrainingSequence[] sequences =
        [
            .. rollouts.Select(r => new TrainingSequence([.. r.PromptTokens, .. r.Tokens], r.PromptTokens.Length)),
        ];
        // With a single update the "old" log-probs are the current ones; otherwise they must be kept from before the first.
        float[][]? old =
            options.Epochs * options.MiniBatches > 1 ? policy.LogProbs(sequences, options.Temperature) : null;
        float[][]? frozen = reference is null
            ? null
            : PolicyModel.LogProbs(reference, sequences, options.Temperature, options.TokensPerMicroBatch);
        return [.. rollouts.Select((r, i) => new Sample(sequences[i], advantages[r], r.LogProbs, old?[i], frozen?[i]))];
    }

    /// <summary>Equal shares of the samples, every group spread over all of them.</summary>
    private IEnumerable<List<Sample>> MiniBatches(List<Sample> samples)
    {
        for (int m = 0; m < options.MiniBatches; m++)
            yield return [.. samples.Where((_, i) => i % options.MiniBatches == m)];
    }

    private float Weight(Sample sample, List<Sample> batch) =>
        (float)(
            options.LossAverage switch
            {
                LossAverage.Token => 1.0 / batch.Sum(s => s.Sequence.Trained),
                LossAverage.Sequence => 1.0 / batch.Count / sample.Sequence.Trained,
                _ => 1.0 / batch.Count / options.MaxNewTokens,
            }
        );
}
