using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Training.Data;

namespace SimpleR1.Training.Rollouts;

/// <summary>
/// What a collection leaves: the rollouts of complete groups, by prompt and sample, and the groups that are not
/// complete.
/// </summary>
internal sealed record CollectedRollouts(IReadOnlyList<Rollout> Rollouts, IReadOnlyList<PromptGroup> Unfinished);

/// <summary>Has the workers complete prompts, and each sample's environment answer its completions as they arrive.</summary>
/// <param name="environments">Makes the environment of one sample.</param>
internal sealed class RolloutCollector(IRolloutWorkers workers, Func<Problem, IEnvironment> environments)
{
    /// <summary>Called after each scored sample: how many there are, of how many that are wanted.</summary>
    public Action<int, int> Scored { get; set; } = (_, _) => { };

    /// <summary>Collects until enough groups are complete; the workers then abort the samples that still run.</summary>
    /// <returns>Ordered by prompt and sample, in whatever order they arrived.</returns>
    public async Task<CollectedRollouts> CollectAsync(
        IReadOnlyList<PromptGroup> prompts,
        int enoughGroups,
        CancellationToken stop
    )
    {
        using var collection = new RolloutCollection(prompts, enoughGroups, environments) { Scored = Scored };
        var requests = collection.FirstRequests;
        while (requests.Count > 0)
        {
            var answers = new List<Task>();
            await foreach (var completion in GenerateAsync(requests, collection, stop))
            {
                var answer = collection.AddAsync(completion, stop);
                if (answer.IsCompleted)
                    await answer; // a reward that throws stops the step at once
                else
                    answers.Add(answer);
            }
            await Task.WhenAll(answers);
            requests = collection.TakeNextTurn();
        }
        return collection.Result();
    }

    private IAsyncEnumerable<Completion> GenerateAsync(
        IReadOnlyList<GenerationRequest> requests,
        RolloutCollection collection,
        CancellationToken stop
    ) => workers.GenerateAsync(requests, collection.MayEndEarly ? collection.Enough : CancellationToken.None, stop);
}
