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
    public IReadOnlyList<TrainingBatch> Build(IReadOnlyList<Rollout> rollouts, Algorithm algorithm)
    {
        var step = new StepSamples
        {
            Rollouts = rollouts,
            Sequences = [.. rollouts.Select(InGroup)],
            Advantages = Advantages(rollouts, algorithm),
        };

        // The samples of each batch, and those of them that are computed
        int[] trained = options.MaskTruncated ? step.TakeEnded() : [.. Enumerable.Range(0, rollouts.Count)];
        int[][] members = [.. Enumerable.Range(0, options.MiniBatches).Select(Members).Where(m => m.Length > 0)];
        bool skips = options.SkipZeroAdvantages && algorithm.SkipsZeroAdvantages;
        int[][] computed = skips ? [.. members.Select(step.Taught)] : members;

        // With a single update the "old" log-probs are the current ones; otherwise they must be kept from before the first.
        bool severalUpdates = options.Epochs * options.MiniBatches > 1;
        int[] all = [.. computed.SelectMany(m => m).Order()];
        if (severalUpdates)
            step.OldLogProbs = LogProbs(policy.Decoder, step.Sequences, all);
        if (reference is not null)
            step.ReferenceLogProbs = LogProbs(reference, step.Sequences, all);
        return [.. members.Zip(computed, (batch, kept) => Batch(step, batch, kept))];

        int[] Members(int batch) => [.. trained.Where((_, place) => place % options.MiniBatches == batch)];

        TrainingSequence InGroup(Rollout rollout) =>
            Sequence(rollout) with
            {
                Group = options.SharedPrompts ? rollout.Group : null,
            };
    }

    /// <param name="members">Samples of the optimizer step.</param>
    /// <param name="computed">Those of them that are computed.</param>
    private TrainingBatch Batch(StepSamples step, int[] members, int[] computed)
    {
        var sequences = step.Sequences;
        long tokens = members.Sum(i => (long)sequences[i].Trained);
        bool isWhole = computed.Length == members.Length;
        return new(
            [.. computed.Select(i => step.Sample(i, WeightOf(i)))],
            TokensSkipped: members.Except(computed).Sum(i => (long)sequences[i].Computed),
            ReportScale: isWhole ? 1 : members.Sum(SumOfWeights) / computed.Sum(SumOfWeights)
        );

        float WeightOf(int i) => Weight(sequences[i].Trained, members.Length, tokens);
        double SumOfWeights(int i) => (double)WeightOf(i) * sequences[i].Trained;
    }

    /// <summary>Log-probs of the trained tokens of some sequences, by the sequences' indices.</summary>
    private Dictionary<int, float[]> LogProbs(Decoder decoder, TrainingSequence[] sequences, int[] indices)
    {
        TrainingSequence[] wanted = [.. indices.Select(i => sequences[i])];
        float[][] found = policy.LogProbs(decoder, wanted, options.Temperature);
        return indices.Zip(found).ToDictionary();
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

    /// <summary>All samples of a step; each index is that of a rollout.</summary>
    private sealed class StepSamples
    {
        public required IReadOnlyList<Rollout> Rollouts { get; init; }
        public required TrainingSequence[] Sequences { get; init; }
        public required float[][] Advantages { get; set; }

        /// <summary>Of the computed samples; null when there is only one update.</summary>
        public Dictionary<int, float[]>? OldLogProbs { get; set; }

        /// <summary>Of the computed samples; null without a reference.</summary>
        public Dictionary<int, float[]>? ReferenceLogProbs { get; set; }

        /// <summary>
        /// The samples with an advantage that is not 0. Where there is none the first group is computed all the same, so
        /// that there is something to report.
        /// </summary>
        public int[] Taught(int[] batch)
        {
            int[] taught = [.. batch.Where(i => Advantages[i].Any(a => a != 0))];
            return taught.Length > 0 ? taught : [.. batch.Where(i => Rollouts[i].Group == Rollouts[batch[0]].Group)];
        }

        /// <summary>The samples that ended by themselves. Where all were cut, all of them, with nothing to learn from.</summary>
        public int[] TakeEnded()
        {
            int[] ended = [.. Enumerable.Range(0, Rollouts.Count).Where(i => !Rollouts[i].IsTruncated)];
            if (ended.Length > 0)
                return ended;
            Advantages = [.. Rollouts.Select(_ => new float[] { 0 })];
            return [.. Enumerable.Range(0, Rollouts.Count)];
        }

        public TrainingSample Sample(int i, float weight)
        {
            var sequence = Sequences[i];
            return new()
            {
                Tokens = sequence.Tokens,
                Group = sequence.Group,
                Weights = Spread(sequence, [weight]),
                Advantages = Spread(sequence, Advantages[i]),
                EngineLogProbs = Spread(sequence, Rollouts[i].LogProbs),
                OldLogProbs = OldLogProbs is null ? null : Spread(sequence, OldLogProbs[i]),
                ReferenceLogProbs = ReferenceLogProbs is null ? null : Spread(sequence, ReferenceLogProbs[i]),
                WeightVersions = Spread(sequence, Rollouts[i].WeightVersions),
            };
        }
    }
}
