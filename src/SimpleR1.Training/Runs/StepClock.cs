using System.Diagnostics;

namespace SimpleR1.Training.Runs;

/// <summary>How far a run is, and how long its step took.</summary>
/// <param name="Step">Steps finished.</param>
/// <param name="Steps">Steps of the whole run.</param>
/// <param name="Seconds">Wall time of the step.</param>
/// <param name="EtaSeconds">Until the last step, at the mean pace so far.</param>
public sealed record StepProgress(int Step, int Steps, double Seconds, double EtaSeconds);

/// <summary>Measures a run's steps.</summary>
internal sealed class StepClock
{
    private readonly Stopwatch clock = Stopwatch.StartNew();
    private double stepStart;
    private (double Start, int Step)? firstStep;

    /// <summary>Since the run's process began to load.</summary>
    public double Seconds => clock.Elapsed.TotalSeconds;

    /// <param name="finished">Steps finished before this one.</param>
    public void BeginStep(int finished)
    {
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
}
