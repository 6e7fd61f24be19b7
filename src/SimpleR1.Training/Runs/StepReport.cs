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
    public required long GeneratedTokens { get; init; }
    public required double TrainingSeconds { get; init; }
    public required long TrainedTokens { get; init; }

    /// <summary>From the optimizer's step to "every worker proved that it holds the new weights".</summary>
    public required double SyncSeconds { get; init; }
    public required double StepSeconds { get; init; }

    /// <summary>Seconds until the last step at the mean pace so far.</summary>
    public required double EtaSeconds { get; init; }

    public double GenerationTokensPerSecond => GeneratedTokens / Math.Max(1e-9, GenerationSeconds);
    public double TrainingTokensPerSecond => TrainedTokens / Math.Max(1e-9, TrainingSeconds);

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
                ("generation_tokens_per_second", GenerationTokensPerSecond),
                ("training_seconds", TrainingSeconds),
                ("training_tokens_per_second", TrainingTokensPerSecond),
                ("sync_seconds", SyncSeconds),
                ("step_seconds", StepSeconds),
            }
        )
            yield return new(name, value);
        foreach (var detail in Details)
            yield return detail;
    }
}
