using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Runs.Evaluations;
using SimpleR1.Training.Runs.Fingerprints;

namespace SimpleR1.Training.Runs;

/// <summary>
/// Which of a run's checkpoints is the best by <c>checkpoint.keep_best</c>, in <c>checkpoints/best.json</c>. It is a
/// checkpoint like the others, which is not deleted when it gets old.
/// </summary>
public sealed record BestCheckpoint
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower) },
        WriteIndented = true,
    };

    public required int Step { get; init; }
    public required string Metric { get; init; }
    public required Best BestIs { get; init; }
    public required double Value { get; init; }

    /// <summary>That of the evaluation: values of other ones cannot be compared with this one.</summary>
    public required Fingerprint Fingerprint { get; init; }

    /// <summary>What an evaluation makes of its step's checkpoint; null when the recipe keeps no best one.</summary>
    internal static BestCheckpoint? Of(Evaluation evaluation, CheckpointSection options) =>
        options.KeepBest is not { } metric
            ? null
            : new()
            {
                Step = evaluation.Step,
                Metric = metric,
                BestIs = options.BestIs,
                Value = evaluation.Metrics().Single(m => m.Key == metric).Value,
                Fingerprint = evaluation.Fingerprint,
            };

    /// <summary>
    /// True when this one is better, or when the two were not judged alike. Of equal ones the first stays the best.
    /// </summary>
    internal bool Replaces(BestCheckpoint best)
    {
        bool comparable = best.Metric == Metric && best.BestIs == BestIs && best.Fingerprint.Equals(Fingerprint);
        return !comparable || (BestIs == Best.Highest ? Value > best.Value : Value < best.Value);
    }

    /// <summary>Its metric and step in words.</summary>
    public override string ToString() =>
        string.Create(CultureInfo.InvariantCulture, $"{Metric} ({Value:0.0###}) is that of step {Step}");

    /// <summary>The best one so far, if its checkpoint exists.</summary>
    /// <exception cref="InvalidDataException">The file is damaged.</exception>
    public static BestCheckpoint? Read(RunFolder run)
    {
        string path = PathIn(run);
        if (!File.Exists(path))
            return null;
        try
        {
            var best = JsonSerializer.Deserialize<BestCheckpoint>(File.ReadAllText(path), Json);
            return best is not null && Directory.Exists(Checkpoints.Folder(run, best.Step)) ? best : null;
        }
        catch (JsonException e)
        {
            throw new InvalidDataException(
                $"{path}: expected the name of the best checkpoint: {e.Message}. Delete the file to forget which is the best.",
                e
            );
        }
    }

    internal void Write(RunFolder run)
    {
        string unfinished = PathIn(run) + ".tmp";
        File.WriteAllText(unfinished, JsonSerializer.Serialize(this, Json));
        File.Move(unfinished, PathIn(run), overwrite: true);
    }

    private static string PathIn(RunFolder run) => Path.Combine(run.Checkpoints, "best.json");
}
