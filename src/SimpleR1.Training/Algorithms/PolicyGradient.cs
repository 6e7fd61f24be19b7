using SimpleR1.Models;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Rollouts;

namespace SimpleR1.Training.Algorithms;

/// <summary>A batch of scored rollouts → one or several updates of the policy by an <see cref="Algorithm"/>.</summary>
public sealed class PolicyGradient(
    PolicyModel policy,
    Algorithm algorithm,
    PolicyGradientOptions options,
    Decoder? reference
)
{
    private readonly BatchBuilder batches = new(policy, options, reference);

    /// <summary>May be set between two updates.</summary>
    public Algorithm Algorithm { get; set; } = algorithm;

    /// <summary>Makes options.Epochs × options.MiniBatches optimizer steps on the rollouts of one step.</summary>
    /// <param name="rollouts">
    /// All samples of all groups, in a fixed order (the order is part of what makes a run repeatable).
    /// </param>
    /// <returns>One entry per optimizer step.</returns>
    public IReadOnlyList<UpdateStatistics> Update(IReadOnlyList<Rollout> rollouts, int step, double learningRate)
    {
        var epoch = batches.Build(rollouts, Algorithm);
        var updates = new List<UpdateStatistics>();
        var difference = new EngineDifference(policy.Weights.Version);
        for (int i = 0; i < options.Epochs; i++)
            foreach (var batch in epoch)
                updates.Add(Update(batch, step, learningRate, difference));
        return updates;
    }

    private UpdateStatistics Update(TrainingBatch batch, int step, double learningRate, EngineDifference difference)
    {
        using var inputs = new LossInputs(batch.Computed);
        var update = policy.Update(
            [.. batch.Computed.Select(s => s.Sequence)],
            options.Temperature,
            step,
            learningRate,
            (range, logProbs) =>
            {
                var input = inputs.Of(range, logProbs);
                difference.Add(input);
                return Algorithm.Loss(input);
            }
        );
        var report = update.Report.ToDictionary(sum => sum.Key, sum => sum.Value * batch.ReportScale);
        report[EngineDifference.Metric] = difference.Mean;
        return update with { TokensAsked = update.TokensAsked + batch.TokensSkipped, Report = report };
    }
}
