using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs.Evaluations;

namespace SimpleR1.Training.Runs;

/// <summary>Writes a run's metrics, and rollouts for people to read.</summary>
public sealed class RunLog(RunFolder run, int? resumedStep) : IDisposable
{
    private readonly MetricsWriter metrics = new(run, resumedStep);
    private readonly SamplesWriter samples = new(run, resumedStep);
    private bool failed;

    /// <param name="elapsed">When the step ended.</param>
    /// <exception cref="IOException">
    /// The file can't be written, for example because the disk is full. The message has what to do.
    /// </exception>
    public void Write(StepReport report, IEnumerable<Rollout> shown, ElapsedTime elapsed) =>
        Write(() =>
        {
            metrics.Write(report.Step, [.. report.Metrics(), .. elapsed.Metrics()]);
            foreach (var r in shown)
                samples.Write(Sample(report.Step, r));
        });

    /// <inheritdoc cref="Write(StepReport, IEnumerable{Rollout}, ElapsedTime)"/>
    /// <param name="model">Folder of the model that answered.</param>
    /// <param name="elapsed">When the evaluation ended.</param>
    public void Write(Evaluation evaluation, string model, ElapsedTime elapsed) =>
        Write(() =>
        {
            metrics.Write(evaluation.Step, [.. evaluation.Metrics(), .. elapsed.Metrics()]);
            EvaluationFiles.Of(run, evaluation.Step).Write(evaluation, model);
        });

    private static LoggedSample Sample(int step, Rollout rollout) =>
        new()
        {
            Step = step,
            Question = rollout.Question,
            Answer = rollout.Gold,
            Completion = rollout.Text,
            Score = new(rollout.Reward, rollout.Rewards),
            Tokens = rollout.Tokens.Length,
            Truncated = rollout.IsTruncated,
        };

    private void Write(Action write)
    {
        try
        {
            write();
        }
        catch (IOException e)
        {
            failed = true;
            throw new IOException(
                $"can't write to {run.Path}: {e.Message}. Checkpoints written before are intact; "
                    + "make room (or make it writable), then continue with --resume.",
                e
            );
        }
    }

    public void Dispose()
    {
        try
        {
            metrics.Dispose();
            samples.Dispose();
        }
        catch (IOException) when (failed) { } // reported already; what is buffered can't be written now either
    }
}
