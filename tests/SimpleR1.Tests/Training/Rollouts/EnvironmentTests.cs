using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Prompts;
using SimpleR1.Training.Data;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Rollouts;
using Xunit;

namespace SimpleR1.Tests.Training.Rollouts;

/// <summary>Conversations of several turns, with workers that answer at once.</summary>
public sealed class EnvironmentTests
{
    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    /// <summary>Completes a prompt of n tokens with the token n, twice.</summary>
    private sealed class EchoWorkers : IRolloutWorkers
    {
        public List<GenerationRequest> Requests { get; } = [];

        public async IAsyncEnumerable<Completion> GenerateAsync(
            IReadOnlyList<GenerationRequest> requests,
            CancellationToken enough = default,
            [EnumeratorCancellation] CancellationToken cancellation = default
        )
        {
            Requests.AddRange(requests);
            foreach (var request in requests.Reverse())
            {
                for (int sample = 0; sample < request.Sampling.Samples; sample++)
                {
                    await Task.Yield();
                    int length = request.PromptTokens.Length;
                    yield return new()
                    {
                        RequestId = request.Id,
                        SampleIndex = sample,
                        Tokens = [length, length],
                        LogProbs = [-1, -2],
                        WeightVersions = [4, 4],
                        FinishReason = FinishReason.Stop,
                        Text = $"text {length}",
                    };
                }
            }
        }

        public Task<SyncReport> PushWeightsAsync(FlatWeights source, int version, CancellationToken cancellation) =>
            throw new NotSupportedException();
    }

    /// <summary>Has the policy speak three times; the score is the number of its turns. Even turns take a moment.</summary>
    private sealed class ThreeTurns : IEnvironment
    {
        private int turns;

        public async ValueTask<Reply> AnswerAsync(Completion completion, CancellationToken stop)
        {
            turns++;
            if (turns % 2 == 0)
                await Task.Yield();
            return turns < 3
                ? new Reply.Continue([100 + turns])
                : new Reply.Final(new(turns, new Dictionary<string, double>()) { Correct = true });
        }
    }

    private static PromptGroup Prompt(int index, int length, int samples) =>
        new(
            new($"question {index}", "gold", new Dictionary<string, JsonNode?>()),
            new(
                $"prompt-{index}",
                [.. Enumerable.Repeat(7, length)],
                new SamplingParameters
                {
                    Samples = samples,
                    MaxTokens = 2,
                    Seed = (ulong)index,
                }
            )
        );

    [Fact]
    public async Task Conversation_of_several_turns_becomes_one_rollout_with_its_segments()
    {
        var workers = new EchoWorkers();
        var collector = new RolloutCollector(workers, _ => new ThreeTurns());

        var progress = new List<(int Done, int All)>();
        collector.Scored = (done, all) => progress.Add((done, all));
        var collected = await collector.CollectAsync([Prompt(0, 3, 2), Prompt(1, 5, 2)], 2, Stop);

        Assert.Equal([(1, 4), (2, 4), (3, 4), (4, 4)], progress); // nobody is done after a first turn
        Assert.Empty(collected.Unfinished);
        Assert.Equal([(0, 0), (0, 1), (1, 0), (1, 1)], collected.Rollouts.Select(r => (r.Group, r.Sample)));
        var rollout = collected.Rollouts[2];
        Assert.Equal([7, 7, 7, 7, 7, 5, 5, 101, 8, 8, 102, 11, 11], rollout.Segments.SelectMany(s => s.Tokens));
        Assert.Equal([false, true, false, true, false, true], rollout.Segments.Select(s => s.IsSampled));
        Assert.Equal([5, 5, 8, 8, 11, 11], rollout.Tokens);
        Assert.Equal("text 5\ntext 8\ntext 11", rollout.Text);
        Assert.Equal(3, rollout.Reward);
        Assert.True(rollout.Correct);

        // Each later turn has a request of its own, with a seed of its own
        Assert.Equal(2 + 4 + 4, workers.Requests.Count);
        Assert.Equal(10, workers.Requests.Select(r => r.Id).Distinct().Count());
        Assert.Equal(10, workers.Requests.Select(r => r.Sampling.Seed).Distinct().Count());
    }

    [Fact]
    public async Task SingleTurn_scores_by_the_rewards()
    {
        var rewards = new RewardSet([
            new("length", 2, RewardFunction.Plain(i => i.Completion.Length)) { Judgement = Judgement.Answer },
        ]);
        var collector = new RolloutCollector(new EchoWorkers(), problem => new SingleTurn(problem, rewards));

        var collected = await collector.CollectAsync([Prompt(0, 3, 1)], 1, Stop);

        var rollout = Assert.Single(collected.Rollouts);
        Assert.Equal(12, rollout.Reward);
        Assert.True(rollout.Correct);
        Assert.Equal([7, 7, 7], rollout.PromptTokens);
        Assert.Equal([3, 3], rollout.Tokens);
    }

    [Theory]
    [InlineData("{question} <think>\n", 1)]
    [InlineData("{question}", 0)]
    public async Task SingleTurn_rewards_see_the_part_of_the_answer_that_the_prompt_holds(string text, double expected)
    {
        var problem = new Problem("1+1?", "2", new Dictionary<string, JsonNode?>());
        string start = PromptTemplate.Create(text).AnswerStart(problem.Conversation);
        var rewards = new RewardSet([new("format", 1, RewardFunction.Plain(BuiltInRewards.Format))]);
        var completion = new Completion
        {
            RequestId = "a",
            SampleIndex = 0,
            Tokens = [1],
            LogProbs = [0],
            WeightVersions = [0],
            FinishReason = FinishReason.Stop,
            Text = "One and one.</think>\n<answer>2</answer>",
        };

        var reply = await new SingleTurn(problem, rewards, start).AnswerAsync(completion, Stop);

        Assert.Equal(expected, Assert.IsType<Reply.Final>(reply).Score.Total);
    }

    [Fact]
    public async Task Collection_says_how_long_it_waited_for_rewards_after_the_last_completion()
    {
        var slow = RewardFunction.Async(
            async (_, stop) =>
            {
                await Task.Delay(50, stop);
                return 1;
            }
        );
        var rewards = new RewardSet([new("slow", 1, slow)]);
        var collector = new RolloutCollector(new EchoWorkers(), problem => new SingleTurn(problem, rewards));
        var collected = await collector.CollectAsync([Prompt(0, 3, 2)], 1, Stop);
        Assert.InRange(collected.RewardSeconds, 0.03, 10);
    }

    [Fact]
    public async Task Reward_that_throws_stops_the_collection()
    {
        var rewards = new RewardSet([new("broken", 1, RewardFunction.Plain(_ => throw new FormatException("oh no")))]);
        var collector = new RolloutCollector(new EchoWorkers(), problem => new SingleTurn(problem, rewards));
        await Assert.ThrowsAsync<RewardException>(() => collector.CollectAsync([Prompt(0, 3, 2)], 1, Stop));
    }

    [Fact]
    public async Task Reward_that_sees_the_group_scores_each_group_once_in_the_order_of_its_samples()
    {
        var groups = new List<string>();
        var rank = RewardFunction.Group(
            (group, _) =>
            {
                lock (groups)
                    groups.Add($"{group[0].Problem.Question}: {group.Count}");
                return new([.. group.Select((_, i) => (double)i)]);
            }
        );
        var rewards = new RewardSet([new("one", 1, RewardFunction.Plain(_ => 1)), new("rank", 10, rank)]);
        var collector = new RolloutCollector(new EchoWorkers(), problem => new SingleTurn(problem, rewards), rewards);

        var collected = await collector.CollectAsync([Prompt(0, 3, 3), Prompt(1, 5, 2)], 2, Stop);

        Assert.Equal([1.0, 11, 21, 1, 11], collected.Rollouts.Select(r => r.Reward));
        Assert.Equal(["one", "rank"], collected.Rollouts[0].Rewards.Keys);
        Assert.Equal(["question 0: 3", "question 1: 2"], groups.Order());
    }

    [Fact]
    public async Task Slow_reward_of_one_sample_does_not_keep_others_from_arriving()
    {
        var workers = new EchoWorkers();
        var arrived = new TaskCompletionSource();
        var rewards = new RewardSet([
            new(
                "waits",
                1,
                RewardFunction.Async(
                    async (input, stop) =>
                    {
                        if (input.Problem.Question == "question 0")
                            arrived.TrySetResult();
                        await arrived.Task.WaitAsync(stop); // question 1 is sampled first
                        return 1;
                    }
                )
            ),
        ]);
        var collector = new RolloutCollector(workers, problem => new SingleTurn(problem, rewards));
        var collected = await collector.CollectAsync([Prompt(0, 3, 1), Prompt(1, 5, 1)], 2, Stop);
        Assert.Equal(["question 0", "question 1"], collected.Rollouts.Select(r => r.Question));
    }
}
