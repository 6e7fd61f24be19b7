using SimpleR1.Training.Runs;

namespace SimpleR1.Training;

/// <summary>
/// The training loop of DeepSeek R1-Zero (DeepSeek-AI 2025): sample groups of answers from the current model, score
/// them by rules, make better-than-average answers more likely, send the new weights to the workers. To change the
/// loop, copy this file.
/// </summary>
public static class R1Zero
{
    /// <summary>
    /// Runs from the experiment's current step to the recipe's last. When stopped, it finishes the step in hand and
    /// saves it.
    /// </summary>
    public static async Task<RunOutcome> RunAsync(Experiment e, CancellationToken stop)
    {
        await e.PushWeightsAsync(); // nothing is sampled before every worker proves that it holds these weights
        if (e.Due(e.Recipe.Training.EvaluateEvery))
            await e.EvaluateAsync(stop);

        while (e.Step < e.Recipe.Training.Steps && !stop.IsCancellationRequested)
        {
            e.BeginStep();
            var prompts = e.NextPrompts(); // problems, as token ids, in the seed's order
            var rollouts = await e.CollectAsync(prompts, CancellationToken.None); // sampled by the workers, scored as they arrive
            var updates = await e.UpdateAsync(rollouts); // rewards → advantages → loss → gradient → AdamW
            var sync = await e.PushWeightsAsync(); // from the trainer's flat buffer into the workers' live one
            e.EndStep(rollouts, updates, sync);

            if (e.Due(e.Recipe.Training.CheckpointEvery))
                await e.SaveAsync();
            if (e.Due(e.Recipe.Training.EvaluateEvery))
                await e.EvaluateAsync(stop);
        }
        return await e.FinishAsync();
    }
}
