using SimpleR1.Screen;
using SimpleR1.Training;

namespace SimpleR1.Commands.Training;

/// <summary>A run of reinforcement learning, with its report on the console and what to do when it fails.</summary>
/// <param name="resume">The command line that resumes it.</param>
internal sealed class ReportedRun(ConsoleReport console, Interrupts interrupts, string resume)
{
    /// <summary>What to do after a failure; null while there was none.</summary>
    public string? Advice { get; private set; }

    /// <summary>What the experiment reports to the console.</summary>
    public static ExperimentEvents Events(ConsoleReport console) =>
        new(console.Step, console.Evaluation, console.Log) { Progress = console.Progress };

    /// <summary>Trains to the last step, or until it is interrupted.</summary>
    /// <returns>The exit code.</returns>
    public async Task<int> RunAsync(string recipe, IEnumerable<string> overrides, ExperimentOptions options)
    {
        await using var experiment = await Experiment.StartAsync(recipe, overrides, options, interrupts.Token);
        try
        {
            var outcome = await R1Zero.RunAsync(experiment, interrupts.Token);
            console.Outcome(outcome);
            if (!outcome.Interrupted)
                return 0;
            console.Log($"stopped after step {outcome.Step} and saved; continue with: {resume}");
            return Interrupts.ExitCode;
        }
        catch (Exception failure)
        {
            Advice = await AdviseAsync(experiment, failure);
            throw;
        }
        finally
        {
            console.End();
        }
    }

    /// <summary>Saves what can be saved after a failure.</summary>
    /// <returns>What was saved, and what to do.</returns>
    private async Task<string> AdviseAsync(Experiment experiment, Exception failure)
    {
        if (experiment.Step == 0 && experiment.Run.HasFormer)
            return "No step was finished. When the cause is removed, start again with the same command.";
        string rescue = await RescueAsync(experiment, failure);
        return $"{rescue} When the cause is removed, continue with: {resume}";
    }

    /// <summary>
    /// Saves the last complete step, so that a failure costs one step, if the disk still takes a checkpoint.
    /// </summary>
    /// <returns>What was saved.</returns>
    private static async Task<string> RescueAsync(Experiment experiment, Exception failure)
    {
        if (experiment.Step == 0)
            return "No step was finished.";
        try
        {
            // After a failure to write a file, the disk cannot be trusted with another checkpoint.
            return failure is not IOException && await experiment.RescueAsync() is { } saved
                ? $"The last whole step was saved: {saved}."
                : "Checkpoints written before are intact.";
        }
        catch (Exception e)
        {
            return $"The last whole step could not be saved ({e.Message}); checkpoints written before are intact.";
        }
    }
}
