using SimpleR1.Inference;
using SimpleR1.Training.Rollouts;

namespace SimpleR1.Tests.Training.Rollouts;

/// <summary>Rollouts of groups, of which only the rewards matter.</summary>
internal static class SampleGroups
{
    /// <summary>One group for each list of rewards. A sample is correct when its reward is 1.</summary>
    public static List<Rollout> Of(params double[][] rewards) =>
        [.. rewards.SelectMany((group, index) => group.Select((reward, sample) => Sample(index, sample, reward)))];

    private static Rollout Sample(int group, int sample, double reward) =>
        new()
        {
            Group = group,
            Sample = sample,
            Question = $"question {group}",
            Gold = "gold",
            Text = "",
            Reward = reward,
            Rewards = new Dictionary<string, double>(),
            Correct = reward == 1,
            FinishReason = FinishReason.Stop,
            Segments = [Segment.Read([1, 2]), new([3, 4, 5], [-1, -1, -1], [0, 0, 0])],
        };
}
