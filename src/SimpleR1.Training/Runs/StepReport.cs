using SimpleR1.Cluster;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Rollouts;

namespace SimpleR1.Training.Runs;

/// <summary>One training step as the console, metrics.jsonl and TensorBoard show it.</summary>
public sealed record StepReport
{
    public required int Step { get; init; }
    public required int Steps { get; init; }

    /// <summary>Mean over the step's samples.</summary>
    public required double Reward { get; init; }

    /// <summary>Share of samples that solve their problem.</summary>
    public required double Accuracy { get; init; }

    /// <summary>Mean tokens of a completion.</summary>
    public required double Length { get; init; }

    /// <summary>Share of completions cut at the length limit.</summary>
    public required double Truncated { get; init; }

    /// <summary>Share of groups whose samples all earned the same: they teach nothing.</summary>
    public required double UniformGroups { get; init; }
    public required double Loss { get; init; }

    /// <summary>Nats a token, mean over trained tokens.</summary>
    public required double Entropy { get; init; }
    public required double GradientNorm { get; init; }
    public required double LearningRate { get; init; }

    /// <summary>Mean values of each reward, and what the algorithm reports (clip fraction, KL).</summary>
    public required IReadOnlyDictionary<string, double> Details { get; init; }
    public required double GenerationSeconds { get; init; }

    /// <summary>
    /// Of these, seconds in which all completions had arrived and their last scores were awaited: what rewards cost the
    /// step in addition to sampling.
    /// </summary>
    public double RewardSeconds { get; init; }
    public required long GeneratedTokens { get; init; }
    public required double TrainingSeconds { get; init; }

    /// <summary>Seconds of training in which the host took losses.</summary>
    public double LossSeconds { get; init; }

    /// <summary>Tokens that training computed, prompts included.</summary>
    public required long TrainedTokens { get; init; }

    /// <summary>Tokens of all samples that were trained on, prompts included, over all updates.</summary>
    public required long AskedTokens { get; init; }

    /// <summary>From the optimizer's step to "every worker proved that it holds the new weights".</summary>
    public required double SyncSeconds { get; init; }
    public required double StepSeconds { get; init; }

    /// <summary>Seconds of the step that are none of generation, training and sync.</summary>
    public double OtherSeconds => StepSeconds - GenerationSeconds - TrainingSeconds - SyncSeconds;

    /// <summary>Seconds until the last step at the mean pace so far.</summary>
    public required double EtaSeconds { get; init; }

    public double GenerationTokensPerSecond => GeneratedTokens / Math.Max(1e-9, GenerationSeconds);
    public double TrainingTokensPerSecond => TrainedTokens / Math.Max(1e-9, TrainingSeconds);

    /// <summary>The report of a step from what the step made.</summary>
    /// <param name="rollouts">Those collected, whether trained on or not.</param>
    /// <param name="updates">One entry per optimizer step.</param>
    /// <param name="generationSeconds">Wall time of sampling and scoring.</param>
    internal static StepReport From(
        IReadOnlyList<Rollout> rollouts,
        IReadOnlyList<UpdateStatistics> updates,
        SyncReport sync,
        StepProgress progress,
        double generationSeconds
    ) =>
        new()
        {
            Step = progress.Step,
            Steps = progress.Steps,

            Reward = rollouts.Average(r => r.Reward),
            Accuracy = rollouts.Average(r => r.Correct ? 1.0 : 0),
            Length = rollouts.Average(r => r.Tokens.Length),
            Truncated = rollouts.Average(r => r.IsTruncated ? 1.0 : 0),
            UniformGroups = rollouts.GroupBy(r => r.Group).Average(g => DynamicSampling.IsUniform(g) ? 1.0 : 0),

            Loss = updates.Average(u => u.Loss),
            Entropy = updates.Average(u => u.Entropy),
            GradientNorm = updates.Average(u => u.GradientNorm),
            LearningRate = updates[^1].LearningRate,
            Details = MeanDetails(rollouts, updates),

            GenerationSeconds = generationSeconds,
            GeneratedTokens = rollouts.Sum(r => (long)r.Tokens.Length),
            TrainingSeconds = updates.Sum(u => u.Seconds),
            LossSeconds = updates.Sum(u => u.LossSeconds),
            TrainedTokens = updates.Sum(u => u.Tokens),
            AskedTokens = updates.Sum(u => u.TokensAsked),
            SyncSeconds = sync.TotalSeconds,
            StepSeconds = progress.Seconds,
            EtaSeconds = progress.EtaSeconds,
        };

    private static SortedDictionary<string, double> MeanDetails(
        IReadOnlyList<Rollout> rollouts,
        IReadOnlyList<UpdateStatistics> updates
    )
    {
        var details = new SortedDictionary<string, double>(StringComparer.Ordinal);
        foreach (string name in rollouts[0].Rewards.Keys)
            details["reward_" + name] = rollouts.Average(r => r.Rewards[name]);
        foreach (string name in updates[0].Report.Keys)
            details[name] = updates.Average(u => u.Report[name]);
        return details;
    }

    /// <summary>This report with more details.</summary>
    internal StepReport With(IEnumerable<KeyValuePair<string, double>> details) =>
        this with
        {
            Details = new SortedDictionary<string, double>(
                Details.Concat(details).ToDictionary(),
                StringComparer.Ordinal
            ),
        };

    /// <summary>This report with the share of sampled tokens that weights older than the step's first ones made.</summary>
    internal StepReport WithOlderTokens(IReadOnlyList<Rollout> rollouts)
    {
        double older = rollouts.Sum(r => (double)r.WeightVersions.Count(version => version < Step - 1));
        return With([new("tokens_of_older_weights", older / rollouts.Sum(r => r.Tokens.Length))]);
    }

    /// <summary>Every number by its name in metrics.jsonl.</summary>
    public IEnumerable<KeyValuePair<string, double>> Metrics()
    {
        foreach (
            var (name, value) in new (string, double)[]
            {
                ("reward", Reward),
                ("accuracy", Accuracy),
                ("completion_length", Length),
                ("truncated", Truncated),
                ("uniform_groups", UniformGroups),
                ("loss", Loss),
                ("entropy", Entropy),
                ("gradient_norm", GradientNorm),
                ("learning_rate", LearningRate),
                ("generation_seconds", GenerationSeconds),
                ("reward_seconds", RewardSeconds),
                ("generation_tokens_per_second", GenerationTokensPerSecond),
                ("training_seconds", TrainingSeconds),
                ("loss_seconds", LossSeconds),
                ("training_tokens_per_second", TrainingTokensPerSecond),
                ("training_tokens_asked", AskedTokens),
                ("training_tokens_computed", TrainedTokens),
                ("sync_seconds", SyncSeconds),
                ("other_seconds", OtherSeconds),
                ("step_seconds", StepSeconds),
            }
        )
            yield return new(name, value);
        foreach (var detail in Details)
            yield return detail;
    }
}
