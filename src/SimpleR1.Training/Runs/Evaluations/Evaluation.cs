using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs.Fingerprints;

namespace SimpleR1.Training.Runs.Evaluations;

/// <summary>Held-out problems, answered with the weights of one version.</summary>
public sealed record Evaluation
{
    internal const string LengthMetric = "evaluation_length";

    /// <summary>Training steps that the weights have had.</summary>
    public required int Step { get; init; }

    /// <summary>In the order of the problems and samples.</summary>
    public required IReadOnlyList<Rollout> Answers { get; init; }
    public required EvaluationScores Scores { get; init; }

    /// <summary>The same of each source by itself, where the problems are of several.</summary>
    public IReadOnlyList<EvaluationSet> Sets { get; init; } = [];

    /// <summary>What the answers follow from, except the weights: only evaluations with the same one can be compared.</summary>
    public required Fingerprint Fingerprint { get; init; }

    /// <summary>Wall time; 0 when it was read from a file.</summary>
    public double Seconds { get; init; }

    public int Correct => Answers.Count(a => a.Correct);
    public double MeanLength => Answers.Average(a => a.Tokens.Length);

    /// <summary>Every number by its name in metrics.jsonl.</summary>
    public IEnumerable<KeyValuePair<string, double>> Metrics() =>
        [
            .. Scores.Metrics(),
            new(LengthMetric, MeanLength),
            .. Sets.SelectMany(s => s.Metrics()),
            new("evaluation_seconds", Seconds),
        ];
}
