using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Rewards;

namespace SimpleR1.Training.Rollouts;

/// <summary>The rollouts of a step: its prompts, and more of them where <c>rollout.refills</c> asks for it.</summary>
/// <param name="failedReward">File that takes what a reward failed on.</param>
internal sealed class RolloutSampler(
    RolloutCollector collector,
    PromptQueue queue,
    RolloutSection options,
    string failedReward
)
{
    /// <summary>Receives what is done, and how many samples of how many have come.</summary>
    public Action<string, int, int> Progress { get; init; } = (_, _, _) => { };

    /// <summary>Which of the rollouts a step trains on.</summary>
    public DynamicSampling Dynamic { get; } = new(options.PromptsPerStep, options.Refills);

    /// <summary>
    /// Samples a step's prompts until enough groups are complete, then more in place of groups that teach nothing.
    /// </summary>
    /// <returns>Ordered by prompt and sample, in whatever order they arrived.</returns>
    public async Task<CollectedRollouts> SampleAsync(
        IReadOnlyList<PromptGroup> prompts,
        int step,
        CancellationToken stop
    )
    {
        int enough = options.Carry > 0 ? options.PromptsPerStep : prompts.Count;
        var collected = await ScoreAsync(prompts, enough, "sampling", stop);
        queue.Measure(prompts, collected.Rollouts);

        int sampled = prompts.Count;
        for (int refilled = 0; ; refilled++)
        {
            int missing = Dynamic.PromptsToAdd(collected.Rollouts, refilled);
            if (missing == 0)
                return collected;
            var more = queue.More(step, missing);
            var added = await ScoreAsync(more, more.Count, "sampling more prompts", stop);
            queue.Measure(more, added.Rollouts);
            collected = collected.With(added, sampled);
            sampled += more.Count;
        }
    }

    /// <summary>Has prompts completed and scored; when a reward fails, what it failed on is kept in a file.</summary>
    /// <param name="enough">Groups to complete.</param>
    /// <param name="work">What is done, for the progress.</param>
    public async Task<CollectedRollouts> ScoreAsync(
        IReadOnlyList<PromptGroup> prompts,
        int enough,
        string work,
        CancellationToken stop
    )
    {
        collector.Scored = (done, of) => Progress(work, done, of);
        try
        {
            return await collector.CollectAsync(prompts, enough, stop);
        }
        catch (RewardException e)
        {
            throw e.WithFile(failedReward);
        }
    }
}
