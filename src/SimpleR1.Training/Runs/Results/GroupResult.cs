namespace SimpleR1.Training.Runs.Results;

/// <summary>When the runs of a group first reached a value, in steps or minutes.</summary>
/// <param name="Reached">Of each run that did: its first evaluation at or above the value.</param>
/// <param name="Runs">All runs of the group.</param>
public sealed record ThresholdTime(double Threshold, IReadOnlyList<double> Reached, int Runs)
{
    /// <param name="evaluations">Of each run, in order.</param>
    public static ThresholdTime Of(double threshold, IReadOnlyList<IReadOnlyList<MetricPoint>> evaluations) =>
        new(
            threshold,
            [
                .. evaluations
                    .Select(points => points.FirstOrDefault(p => p.Value >= threshold))
                    .OfType<MetricPoint>()
                    .Select(p => p.X),
            ],
            evaluations.Count
        );
}

/// <summary>How well and how fast the runs of one recipe learned.</summary>
public sealed record GroupResult
{
    public required RunGroup Group { get; init; }

    /// <summary>The metric's points of each run, in the order of the runs.</summary>
    public required IReadOnlyList<IReadOnlyList<MetricPoint>> Points { get; init; }
    public required IReadOnlyList<ThresholdTime> Thresholds { get; init; }

    /// <summary>Before training, where runs were evaluated then; null where no run was evaluated.</summary>
    public SeedFigure? First => Figure(points => points[0]);

    /// <summary>Of each run's last evaluation.</summary>
    public SeedFigure? Last => Figure(points => points[^1]);

    /// <summary>Of each run's evaluation with the highest value.</summary>
    public SeedFigure? Best => Figure(points => points.MaxBy(p => p.Value)!);

    /// <summary>Steps finished by each run.</summary>
    public IEnumerable<double> Steps => Group.Runs.Select(run => (double)run.Metrics.Steps);

    /// <summary>Minutes that each run has trained, of runs that know it.</summary>
    public IEnumerable<double> TrainingMinutes =>
        Group.Runs.Select(run => run.Metrics.TrainingSeconds / 60).OfType<double>();

    public static GroupResult Of(RunGroup group, ResultOptions options)
    {
        IReadOnlyList<MetricPoint>[] points =
        [
            .. group.Runs.Select(run => run.Metrics.Points(options.Metric, options.Axis)),
        ];
        return new()
        {
            Group = group,
            Points = points,
            Thresholds = [.. options.Thresholds.Select(threshold => ThresholdTime.Of(threshold, points))],
        };
    }

    private SeedFigure? Figure(Func<IReadOnlyList<MetricPoint>, MetricPoint> choose) =>
        SeedFigure.Of([.. Points.Where(points => points.Count > 0).Select(choose)]);
}
