using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Training.Rewards;

namespace SimpleR1.Training.Rollouts;

/// <summary>What a collection leaves: the rollouts of complete groups, by prompt and sample, and the groups that are not complete.</summary>
internal sealed record CollectedRollouts(IReadOnlyList<Rollout> Rollouts, IReadOnlyList<PromptGroup> Unfinished);

/// <summary>Has the workers complete prompts, and scores each completion as it arrives.</summary>
internal sealed class RolloutCollector(IRolloutWorkers workers, RewardSet rewards)
{
    /// <summary>Collects until enough groups are complete; the workers then abort the samples that still run.</summary>
    /// <returns>Ordered by prompt and sample, in whatever order they arrived.</returns>
    public async Task<CollectedRollouts> CollectAsync(
        IReadOnlyList<PromptGroup> prompts,
        int enoughGroups,
        CancellationToken stop
    )
    {
        OpenGroup[] groups = [.. prompts.Select((prompt, index) => new OpenGroup(prompt, index))];
        var byRequest = groups.ToDictionary(group => group.Prompt.Request.Id);
        GenerationRequest[] requests = [.. prompts.Select(p => p.Request).Where(r => r.Count > 0)];
        int complete = prompts.Count - requests.Length;
        bool mayEndEarly = enoughGroups < prompts.Count;
        using var enough = new CancellationTokenSource();
        var early = mayEndEarly ? enough.Token : CancellationToken.None;

        await foreach (var completion in workers.GenerateAsync(requests, early, stop))
        {
            var group = byRequest[completion.RequestId];
            if (completion.FinishReason == FinishReason.Aborted)
            {
                group.Add(Partial(completion));
                continue;
            }
            group.Add(Scored(group, completion));
            if (group.IsComplete && ++complete == enoughGroups && mayEndEarly)
                enough.Cancel();
        }

        return new(
            [.. groups.Where(g => !g.IsCarried).SelectMany(g => g.Rollouts)],
            [.. groups.Where(g => g.IsCarried).Select(g => g.Rest)]
        );
    }

    private Rollout Scored(OpenGroup group, Completion completion)
    {
        var problem = group.Prompt.Problem;
        bool truncated = completion.FinishReason == FinishReason.Length;
        var score = rewards.Score(new(problem, completion.Text, truncated));
        return new()
        {
            Group = group.Index,
            Sample = completion.SampleIndex,
            Question = problem.Question,
            Gold = problem.Answer,
            Text = completion.Text,
            Reward = score.Total,
            Rewards = score.ByName,
            Correct = score.Correct,
            FinishReason = completion.FinishReason,
            Segments = Rollout.SingleTurn(group.Prompt.Request.PromptTokens, completion),
        };
    }

    private static PartialSample Partial(Completion completion) =>
        new(completion.SampleIndex)
        {
            Tokens = completion.Tokens,
            LogProbs = completion.LogProbs,
            WeightVersions = completion.WeightVersions,
        };

    /// <summary>A group while its samples arrive.</summary>
    private sealed class OpenGroup(PromptGroup prompt, int index)
    {
        private readonly List<Rollout> finished = [.. prompt.Finished.Select(r => r with { Group = index })];
        private readonly List<PartialSample> partial = [];

        public PromptGroup Prompt => prompt;
        public int Index => index;
        public bool IsComplete => finished.Count == prompt.Request.Sampling.Samples;

        /// <summary>True when the workers aborted a sample of it.</summary>
        public bool IsCarried => partial.Count > 0;
        public IEnumerable<Rollout> Rollouts => finished.OrderBy(r => r.Sample);

        /// <summary>The group with a request for the samples that are missing.</summary>
        public PromptGroup Rest =>
            prompt with
            {
                Request = prompt.Request with { PartialSamples = [.. partial.OrderBy(p => p.Index)] },
                Finished = finished,
            };

        public void Add(Rollout rollout) => finished.Add(rollout);

        public void Add(PartialSample sample) => partial.Add(sample);
    }
}
