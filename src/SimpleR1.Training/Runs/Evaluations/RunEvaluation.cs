namespace SimpleR1.Training.Runs.Evaluations;

/// <summary>The evaluations of a run's models.</summary>
/// <param name="All">By step; with an output folder also those that an earlier call made.</param>
/// <param name="Interrupted">True when some are missing because the call was stopped.</param>
public sealed record RunEvaluationResult(IReadOnlyList<EvaluationSummary> All, bool Interrupted);

/// <summary>
/// Evaluates a run's first model and every checkpoint that the run has kept, one after the other, with the workers of one
/// experiment.
/// </summary>
/// <param name="run">The run's folder.</param>
/// <param name="output">Where evaluations are kept; null keeps only their figures in memory.</param>
/// <param name="log">Receives lines for a person.</param>
public sealed class RunEvaluation(RunFolder run, EvaluationFolder? output, Action<string> log)
{
    private readonly List<EvaluationSummary> made = [];

    /// <summary>Evaluates what is not evaluated yet, until stopped.</summary>
    /// <param name="experiment">One that only evaluates; its recipe's model is the one that the run began with.</param>
    /// <exception cref="InvalidDataException">The recipe's model is not the one that the run began with.</exception>
    /// <exception cref="IOException">The folder holds evaluations that were made otherwise.</exception>
    public async Task<RunEvaluationResult> RunAsync(Experiment experiment, CancellationToken stop)
    {
        var models = Checkpoints
            .All(run)
            .Select(folder => (RunState.Read(folder).Step, folder))
            .Where(model => model.Step > 0)
            .Prepend((0, experiment.Recipe.Model.Path))
            .ToList();
        await CheckStartAsync(experiment, models.Skip(1).Select(model => model.Item2));
        output?.Prepare(experiment.EvaluationFingerprint);

        bool interrupted = false;
        foreach (var (step, folder) in models)
        {
            if (!Directory.Exists(folder))
                log($"{folder} is gone: the run that still trains has deleted it");
            else if (!await EvaluateAsync(experiment, step, folder, stop))
            {
                interrupted = true;
                break;
            }
        }
        return new(output?.Read() ?? made, interrupted);
    }

    /// <returns>False when stopped.</returns>
    private async Task<bool> EvaluateAsync(Experiment experiment, int step, string folder, CancellationToken stop)
    {
        if (stop.IsCancellationRequested)
            return false;
        ulong hash = await experiment.LoadWeightsAsync(folder, step);
        string weights = FormattableString.Invariant($"{hash:x16}");
        if (output?.Find(step, weights) is not null)
        {
            log($"step {step} is evaluated already");
            return true;
        }
        await experiment.PushWeightsAsync();
        if (await experiment.EvaluateAsync(stop) is not { } evaluation)
            return false;

        made.Add(EvaluationSummary.Of(evaluation, folder, weights));
        output?.FilesOf(step).Write(evaluation, folder, weights);
        output?.WriteOverview($"Evaluations of {run.Name}");
        return true;
    }

    private static async Task CheckStartAsync(Experiment experiment, IEnumerable<string> checkpoints)
    {
        string model = experiment.Recipe.Model.Path;
        ulong start = await experiment.LoadWeightsAsync(model, 0);
        foreach (string folder in checkpoints)
            if (RunState.Read(folder).StartHash != start)
                throw new InvalidDataException(
                    $"{folder} is of a run that began with other weights than those of {model}. "
                        + "Name the model that the run began with: --model FOLDER"
                );
    }
}
