using SimpleR1.Inference;
using SimpleR1.Training.Data;
using SimpleR1.Training.Rewards;

namespace SimpleR1.Training.Rollouts;

/// <summary>The prompts of one collection while their samples arrive. Safe to call from several threads.</summary>
internal sealed class RolloutCollection : IDisposable
{
    private readonly Lock gate = new();
    private readonly CancellationTokenSource enough = new();
    private readonly Func<Problem, IEnvironment> environments;
    private readonly RewardSet? groupRewards;
    private readonly int enoughGroups;
    private readonly OpenGroup[] groups;
    private readonly Dictionary<string, OpenGroup> byRequest;
    private readonly Dictionary<string, (OpenGroup Group, Conversation Conversation)> laterTurns = [];
    private List<GenerationRequest> nextTurn = [];
    private int complete;
    private readonly int samples;
    private int scored;

    /// <param name="enoughGroups">Groups to complete; the samples of others may then be aborted.</param>
    /// <param name="groupRewards">Scores complete groups, when it has rewards that see them.</param>
    public RolloutCollection(
        IReadOnlyList<PromptGroup> prompts,
        int enoughGroups,
        Func<Problem, IEnvironment> environments,
        RewardSet? groupRewards
    )
    {
        this.environments = environments;
        this.groupRewards = groupRewards is { SeesGroups: true } ? groupRewards : null;
        this.enoughGroups = enoughGroups;
        groups = [.. prompts.Select((prompt, index) => new OpenGroup(prompt, index))];
        byRequest = groups.ToDictionary(group => group.Prompt.Request.Id);
        FirstRequests = [.. prompts.Select(p => p.Request).Where(r => r.Count > 0)];
        complete = prompts.Count - FirstRequests.Count;
        scored = prompts.Sum(p => p.Finished.Count);
        samples = prompts.Sum(p => p.Request.Sampling.Samples);
    }

    public IReadOnlyList<GenerationRequest> FirstRequests { get; }

    /// <summary>Called after each scored sample: how many there are, of how many in all groups.</summary>
    public Action<int, int> Scored { get; init; } = (_, _) => { };

    /// <summary>True when samples may be aborted before their end.</summary>
    public bool MayEndEarly => enoughGroups < groups.Length;

    /// <summary>Is cancelled when enough groups are complete.</summary>
    public CancellationToken Enough => enough.Token;

    /// <summary>Takes the requests of the samples that continue after the last round.</summary>
    public IReadOnlyList<GenerationRequest> TakeNextTurn()
    {
        lock (gate)
        {
            var taken = nextTurn;
            nextTurn = [];
            return taken;
        }
    }

    /// <summary>Takes a sample in: a part of one that was aborted, or a completion, which its environment answers.</summary>
    public async Task AddAsync(Completion completion, CancellationToken stop)
    {
        var (group, conversation) = Find(completion);
        if (completion.FinishReason == FinishReason.Aborted)
        {
            lock (gate)
                group.Add(Partial(completion));
            return;
        }
        var reply = await conversation.AnswerAsync(completion, stop);
        if (reply is Reply.Continue turn)
            Continue(group, conversation, turn);
        else if (Finish(group, conversation, (Reply.Final)reply))
            await CompleteAsync(group, stop);
    }

    public CollectedRollouts Result() =>
        new(
            [.. groups.Where(g => !g.IsCarried).SelectMany(g => g.Rollouts)],
            [.. groups.Where(g => g.IsCarried).Select(g => g.Rest)]
        );

    public void Dispose() => enough.Dispose();

    private (OpenGroup, Conversation) Find(Completion completion)
    {
        lock (gate)
        {
            if (laterTurns.TryGetValue(completion.RequestId, out var known))
                return known;
        }
        var group = byRequest[completion.RequestId];
        var environment = environments(group.Prompt.Problem);
        return (group, new(group.Prompt, group.Index, completion.SampleIndex, environment));
    }

    private void Continue(OpenGroup group, Conversation conversation, Reply.Continue turn)
    {
        if (MayEndEarly)
            throw new NotSupportedException(
                "a conversation of several turns can't be carried to the next step; set rollout.carry to 0"
            );
        var request = conversation.NextTurn(turn.Tokens);
        lock (gate)
        {
            laterTurns[request.Id] = (group, conversation);
            nextTurn.Add(request);
        }
    }

    /// <returns>True when this sample completes its group.</returns>
    private bool Finish(OpenGroup group, Conversation conversation, Reply.Final reply)
    {
        lock (gate)
        {
            group.Add(conversation.Finish(reply));
            Scored(++scored, samples);
            return group.IsComplete;
        }
    }

    /// <summary>Scores a complete group as a whole, and aborts the others when it is the last that is needed.</summary>
    private async Task CompleteAsync(OpenGroup group, CancellationToken stop)
    {
        if (groupRewards is not null)
            await group.ScoreAsync(groupRewards, stop);
        bool isEnough;
        lock (gate)
            isEnough = ++complete == enoughGroups && MayEndEarly;
        if (isEnough)
            await enough.CancelAsync();
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

        /// <summary>True when a sample of the group was aborted.</summary>
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

        /// <summary>Replaces the scores of all samples, none of which changes any more.</summary>
        public async Task ScoreAsync(RewardSet rewards, CancellationToken stop)
        {
            Rollout[] rollouts = [.. Rollouts];
            RewardInput[] inputs =
            [
                .. rollouts.Select(r =>
                    r.Input
                    ?? throw new NotSupportedException(
                        "rewards that see a prompt's whole group need Reply.Final.Input, which this environment does not set"
                    )
                ),
            ];
            var scores = await rewards.ScoreGroupAsync(inputs, [.. rollouts.Select(r => r.Score)], stop);
            for (int i = 0; i < rollouts.Length; i++)
                finished[i] = rollouts[i].WithScore(scores[i]);
        }

        public void Add(PartialSample sample) => partial.Add(sample);
    }
}
