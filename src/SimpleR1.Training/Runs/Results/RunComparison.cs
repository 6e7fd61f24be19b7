namespace SimpleR1.Training.Runs.Results;

/// <summary>By what runs are compared.</summary>
public sealed record ResultOptions
{
    /// <summary>A metric of evaluations; higher is better.</summary>
    public string Metric { get; init; } = "evaluation_accuracy";

    /// <summary>What the times to thresholds, and the picture, are in.</summary>
    public RunAxis Axis { get; init; } = RunAxis.Time;

    /// <summary>Values whose first evaluation at or above them is looked for.</summary>
    public IReadOnlyList<double> Thresholds { get; init; } = [0.30, 0.35, 0.40, 0.45, 0.50];
}

/// <summary>Runs, grouped by their recipes, with their figures.</summary>
public sealed record RunComparison(ResultOptions Options, IReadOnlyList<GroupResult> Groups)
{
    /// <summary>Reads runs; one that is in progress, or has no evaluation, has fewer figures.</summary>
    /// <inheritdoc cref="RecordedRun.Read" path="/exception"/>
    public static RunComparison Read(IEnumerable<string> runFolders, ResultOptions options)
    {
        RecordedRun[] runs = [.. runFolders.Select(RecordedRun.Read)];
        return new(options, [.. RunGroup.Of(runs).Select(group => GroupResult.Of(group, options))]);
    }

    /// <summary>The recipe keys in which the groups differ.</summary>
    public IReadOnlyList<string> DifferingKeys => [.. RunGroup.DifferingKeys([.. Groups.Select(g => g.Group)])];
}
