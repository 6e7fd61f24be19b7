using System.Diagnostics;
using SimpleR1.Training.Runs.Files;

namespace SimpleR1.Training.Runs;

/// <summary>How far a run is, and how long its step took.</summary>
/// <param name="Step">Steps finished.</param>
/// <param name="Steps">Steps of the whole run.</param>
/// <param name="Seconds">Wall time of the step.</param>
/// <param name="EtaSeconds">Until the last step, at the mean pace so far.</param>
public sealed record StepProgress(int Step, int Steps, double Seconds, double EtaSeconds);

/// <summary>How long a run has worked, summed over its sessions; in every row of <c>metrics.jsonl</c>.</summary>
/// <param name="Seconds">Wall time since the run began to load, everything included.</param>
/// <param name="TrainingSeconds">
/// Wall time since the first step began, without the evaluations: steps, and the checkpoints between them.
/// </param>
public sealed record ElapsedTime(double Seconds, double TrainingSeconds)
{
    internal const string Metric = "elapsed_seconds";
    internal const string TrainingMetric = "elapsed_step_seconds";

    public static ElapsedTime None { get; } = new(0, 0);

    /// <summary>Both figures by their names in metrics.jsonl.</summary>
    public IEnumerable<KeyValuePair<string, double>> Metrics() =>
        [new(Metric, Seconds), new(TrainingMetric, TrainingSeconds)];

    /// <summary>
    /// The time at a run's last row, which a resumed run continues from. NaN where an older program wrote that row: no
    /// later row can know how long the run has worked.
    /// </summary>
    public static ElapsedTime Last(string metricsPath) =>
        JsonLines.Read(metricsPath).LastOrDefault() is { } row
            ? new(JsonLines.NumberOf(row, Metric) ?? double.NaN, JsonLines.NumberOf(row, TrainingMetric) ?? double.NaN)
            : None;
}

/// <summary>Measures a run and its steps.</summary>
internal sealed class StepClock
{
    private readonly Stopwatch clock = Stopwatch.StartNew();
    private readonly Stopwatch training = new(); // runs from the first step on, but not in evaluations
    private ElapsedTime before = ElapsedTime.None;
    private double stepStart;
    private (double Start, int Step)? firstStep;

    /// <summary>Since the run began to load in this process.</summary>
    public double Seconds => clock.Elapsed.TotalSeconds;

    /// <summary>Until now, with the sessions before this one.</summary>
    public ElapsedTime Elapsed => new(before.Seconds + Seconds, before.TrainingSeconds + training.Elapsed.TotalSeconds);

    /// <summary>Adds the time of the sessions before this one.</summary>
    public void Continue(ElapsedTime sessionsBefore) => before = sessionsBefore;

    /// <param name="finished">Steps finished before this one.</param>
    public void BeginStep(int finished)
    {
        training.Start();
        stepStart = Seconds;
        firstStep ??= (stepStart, finished);
    }

    /// <param name="finished">Steps finished, the one that ends here included.</param>
    /// <param name="steps">Steps of the whole run.</param>
    public StepProgress EndStep(int finished, int steps)
    {
        double now = Seconds;
        var (start, step) = firstStep ?? throw new InvalidOperationException("a step ended that never began");
        double pace = (now - start) / (finished - step);
        return new(finished, steps, now - stepStart, pace * (steps - finished));
    }

    /// <summary>Until it is disposed, an evaluation takes time that is none of training.</summary>
    public IDisposable PauseTraining() => new Pause(training);

    private sealed class Pause : IDisposable
    {
        private readonly Stopwatch training;
        private readonly bool wasRunning;

        public Pause(Stopwatch training)
        {
            this.training = training;
            wasRunning = training.IsRunning;
            training.Stop();
        }

        public void Dispose()
        {
            if (wasRunning)
                training.Start();
        }
    }
}
