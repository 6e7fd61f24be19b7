using System.Text.Json.Nodes;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Runs.Files;

namespace SimpleR1.Training.Runs;

/// <summary>A rollout as people read it.</summary>
public sealed record LoggedSample
{
    public required int Step { get; init; }
    public required string Question { get; init; }
    public required string Answer { get; init; }
    public required string Completion { get; init; }
    public required Score Score { get; init; }
    public required int Tokens { get; init; }
    public required bool Truncated { get; init; }
}

/// <summary>Rollouts in <c>samples.jsonl</c>.</summary>
public sealed class SamplesWriter(RunFolder run, int? resumedStep = null) : IDisposable
{
    private readonly JsonLines rows = new(run.Samples, resumedStep);

    public void Write(LoggedSample sample) =>
        rows.Write(
            new JsonObject
            {
                ["step"] = sample.Step,
                ["reward"] = sample.Score.Total,
                ["rewards"] = new JsonObject(
                    sample.Score.ByName.Select(r => KeyValuePair.Create(r.Key, (JsonNode?)r.Value))
                ),
                ["tokens"] = sample.Tokens,
                ["truncated"] = sample.Truncated,
                ["question"] = sample.Question,
                ["answer"] = sample.Answer,
                ["completion"] = sample.Completion,
            }
        );

    public void Dispose() => rows.Dispose();
}
