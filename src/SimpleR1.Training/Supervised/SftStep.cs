namespace SimpleR1.Training.Supervised;

/// <summary>One step of training on text. Losses are nats a token.</summary>
public sealed record SftStep
{
    /// <summary>Steps finished.</summary>
    public required int Step { get; init; }
    public required int Steps { get; init; }
    public required double Loss { get; init; }

    /// <summary>Before clipping.</summary>
    public required double GradientNorm { get; init; }
    public required double LearningRate { get; init; }
    public required double Seconds { get; init; }
    public required long Tokens { get; init; }

    /// <summary>Null after a step that is not followed by an evaluation.</summary>
    public required double? HeldOutLoss { get; init; }

    /// <summary>Until the last step, at the mean pace so far.</summary>
    public required double EtaSeconds { get; init; }

    public double TokensPerSecond => Tokens / Math.Max(1e-9, Seconds);

    /// <summary>Every number by its name in metrics.jsonl.</summary>
    public IEnumerable<KeyValuePair<string, double>> Metrics()
    {
        yield return new("loss", Loss);
        yield return new("gradient_norm", GradientNorm);
        yield return new("learning_rate", LearningRate);
        yield return new("training_seconds", Seconds);
        yield return new("training_tokens_per_second", TokensPerSecond);
        if (HeldOutLoss is { } heldOut)
            yield return new("held_out_loss", heldOut);
    }
}
