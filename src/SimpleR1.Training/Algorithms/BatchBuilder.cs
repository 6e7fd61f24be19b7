using SimpleR1.Models;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Rollouts;

namespace SimpleR1.Training.Algorithms;

/// <summary>The rollouts of a step → the samples of each optimizer step, with all that a loss needs per token.</summary>
internal sealed class BatchBuilder(PolicyModel policy, PolicyGradientOptions options, Decoder? reference)
{
    /// <returns>
    /// One batch per optimizer step of an epoch: equal shares of the samples, every group spread over all of them.
    /// </returns>
    public IReadOnlyList<TrainingSample[]> Build(IReadOnlyList<Rollout> rollouts, Algorithm algorithm)
    {
        float[][] advantages = Advantages(rollouts, algorithm);
        TrainingSequence[] sequences = [.. rollouts.Select(Sequence)];

        // With a single update the "old" log-probs are the current ones; otherwise they must be kept from before the first.
        bool severalUpdates = options.Epochs * options.MiniBatches > 1;
        float[][]? old = severalUpdates ? policy.LogProbs(sequences, options.Temperature) : null;
        float[][]? frozen = reference is null ? null : policy.LogProbs(reference, sequences, options.Temperature);

        var batches = new List<TrainingSample[]>();
        for (int m = 0; m < options.MiniBatches; m++)
        {
            int[] members = [.. Enumerable.Range(0, rollouts.Count).Where(i => i % options.MiniBatches == m)];
            long trained = members.Sum(i => (long)sequences[i].Trained);
            batches.Add([.. members.Select(i => Sample(i, members.Length, trained))]);
        }
        return batches;

        TrainingSample Sample(int i, int samples, long tokens)
        {
            var sequence = sequences[i];
            float weight = Weight(sequence.Trained, samples, tokens);
            return new()
            {
                Tokens = sequence.Tokens,
                Weights = Spread(sequence, [weight]),
                Advantages = Spread(sequence, advantages[i]),
                EngineLogProbs = Spread(sequence, rollouts[i].LogProbs),
                OldLogProbs = old is null ? null : Spread(sequence, old[i]),
                ReferenceLogProbs = frozen is null ? null : Spread(sequence, frozen[i]),
                WeightVersions = Spread(sequence, rollouts[i].WeightVersions),
            };
        }
    }

    /// <summary>Per rollout, an advantage for each sampled token, or one for all of them.</summary>
    private static float[][] Advantages(IReadOnlyList<Rollout> rollouts, Algorithm algorithm)
    {
        var advantages = new float[rollouts.Count][];
        foreach (var group in Enumerable.Range(0, rollouts.Count).GroupBy(i => rollouts[i].Group))
        {
            int[] members = [.. group];
            float[][] values = algorithm.Advantages([.. members.Select(i => rollouts[i])]);
            if (values.Length != members.Length)
                throw new ArgumentException(
                    $"the algorithm gave advantages for {values.Length} samples of group {group.Key}, "
                        + $"which has {members.Length}"
                );
            for (int i = 0; i < members.Length; i++)
            {
                var rollout = rollouts[members[i]];
                int tokens = rollout.Tokens.Length;
                if (values[i].Length != 1 && values[i].Length != tokens)
                    throw new ArgumentException(
                        $"the algorithm gave {values[i].Length} advantages for {NameOf(rollout)} with {tokens} sampled "
                            + "tokens; expected one, or one per token"
                    );
                advantages[members[i]] = values[i];
            }
        }
        return advantages;
    }

    private static string NameOf(Rollout rollout) => $"sample {rollout.Sample} of group {rollout.Group}";

    /// <summary>The whole conversation, of which the tokens that the policy sampled are trained.</summary>
    /// <exception cref="ArgumentException">A sampled segment lacks log-probs or versions for some of its tokens.</exception>
    internal static TrainingSequence Sequence(Rollout rollout)
    {
        if (rollout.Segments.FirstOrDefault(s => !s.IsWhole) is { } broken)
            throw new ArgumentException(
                $"{NameOf(rollout)} has a sampled segment of {broken.Tokens.Length} tokens with "
                    + $"{broken.LogProbs?.Length ?? 0} log-probs and {broken.WeightVersions?.Length ?? 0} weight versions; "
                    + "expected one of each per token"
            );
        var positions = new List<int>();
        int start = 0;
        foreach (var segment in rollout.Segments)
        {
            if (segment.IsSampled)
                positions.AddRange(Enumerable.Range(start, segment.Tokens.Length));
            start += segment.Tokens.Length;
        }
        return new([.. rollout.Segments.SelectMany(s => s.Tokens)], [.. positions]);
    }

    /// <summary>Values of the trained tokens, or one for all of them → one entry per token, 0 at the others.</summary>
    private static T[] Spread<T>(TrainingSequence sequence, T[] values)
    {
        var spread = new T[sequence.Tokens.Length];
        for (int i = 0; i < sequence.Positions.Length; i++)
            spread[sequence.Positions[i]] = values.Length == 1 ? values[0] : values[i];
        return spread;
    }

    /// <param name="trained">Trained tokens of the sample.</param>
    /// <param name="samples">Samples of the optimizer step.</param>
    /// <param name="tokens">Trained tokens of the optimizer step.</param>
    private float Weight(int trained, int samples, long tokens) =>
        (float)(
            options.LossAverage switch
            {
                LossAverage.Token => 1.0 / tokens,
                LossAverage.Sequence => 1.0 / samples / trained,
                _ => 1.0 / samples / options.MaxNewTokens,
            }
        );
}
