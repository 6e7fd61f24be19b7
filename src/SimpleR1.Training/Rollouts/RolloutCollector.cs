using System.Diagnostics;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Training.Data;
using SimpleR1.Training.Rewards;

namespace SimpleR1.Training.Rollouts;

/// <summary>
/// What a collection leaves: the rollouts of complete groups, by prompt and sample, and the groups that are not
/// complete.
/// </summary>
internal sealed record CollectedRollouts(IReadOnlyList<Rollout> Rollouts, IReadOnlyList<PromptGroup> Unfinished)
{
    /// <summary>Wall time from the last completion to its score, over all turns.</summary>
    public double RewardSeconds { get; init; }

    /// <summary>These rollouts, then those of more prompts, with groups numbered on.</summary>
    /// <param name="prompts">Number of prompts that these are of.</param>
    public CollectedRollouts With(CollectedRollouts more, int prompts) =>
        new(
            [.. Rollouts, .. more.Rollouts.Select(r => r with { Group = prompts + r.Group })],
            [.. Unfinished, .. more.Unfinished]
        )
        {
            RewardSeconds = RewardSeconds + more.RewardSeconds,
        };
}

/// <summary>Has the workers complete prompts, and each sample's environment answer its completions as they arrive.</summary>
/// <param name="environments">Makes the environment of one sample.</param>
/// <param name="groupRewards">Scores complete groups, when it has rewards that see them.</param>
internal sealed class RolloutCollector(
    IRolloutWorkers workers,
    Func<Problem, IEnvironment> environments,
    RewardSet? groupRewards = null
)
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
        using var collection = new RolloutCollection(prompts, enoughGroups, environments, groupRewards)
        {
            Scored = Scored,
        };
        var requests = collection.FirstRequests;
        double rewardSeconds = 0;
        while (requests.Count > 0)
        {
            rewardSeconds += await CompleteAsync(requests, collection, stop);
            requests = collection.TakeNextTurn();
        }
        return collection.Result() with { RewardSeconds = rewardSeconds };
    }

    /// <summary>
    /// Has requests completed and answered. Sampling does not wait for answers; an answer that fails stops both at once.
    /// </summary>
    /// <returns>Seconds from the last completion to the last answer.</returns>
    private async Task<double> CompleteAsync(
        IReadOnlyList<GenerationRequest> requests,
        RolloutCollection collection,
        CancellationToken stop
    )
    {
        var failed = new CancellationTokenSource(); // not disposed: answers may outlive an error of the workers
        using var link = stop.Register(failed.Cancel);
        var enough = collection.MayEndEarly ? collection.Enough : CancellationToken.None;
        var answers = new List<Task>();
        try
        {
            await foreach (var completion in workers.GenerateAsync(requests, enough, failed.Token))
                answers.Add(AnswerAsync(completion));
        }
        catch (OperationCanceledException) when (failed.IsCancellationRequested && !stop.IsCancellationRequested)
        {
            // The error of the answer comes next
        }
        long arrived = Stopwatch.GetTimestamp();
        await Task.WhenAll(answers);
        return Stopwatch.GetElapsedTime(arrived).TotalSeconds;

        async Task AnswerAsync(Completion completion)
        {
            try
            {
                await collection.AddAsync(completion, failed.Token);
            }
            catch
            {
                await failed.CancelAsync();
                throw;
            }
        }
    }
}
