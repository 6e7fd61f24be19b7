using SimpleR1.Training.Rollouts;
using Xunit;

namespace SimpleR1.Tests.Training.Rollouts;

public sealed class DynamicSamplingTests
{
    private static readonly double[] Mixed = [1, 0, 0];
    private static readonly double[] Wrong = [0, 0, 0];
    private static readonly double[] Right = [1, 1, 1];

    private static int[] Groups(IReadOnlyList<Rollout> rollouts) => [.. rollouts.Select(r => r.Group).Distinct()];

    [Fact]
    public void Missing_groups_are_asked_for_at_the_share_that_taught_something()
    {
        var sampling = new DynamicSampling(4, 2);
        Assert.Equal(4, sampling.PromptsToAdd(SampleGroups.Of(Mixed, Wrong, Mixed, Right), 0)); // 2 of 4: 2 / 0.5
        Assert.Equal(2, sampling.PromptsToAdd(SampleGroups.Of(Mixed, Mixed, Mixed, Right), 1)); // 1 / 0.75, rounded up
        Assert.Equal(4, sampling.PromptsToAdd(SampleGroups.Of(Wrong, Right, Wrong, Right), 0)); // never more than a step
        Assert.Equal(0, sampling.PromptsToAdd(SampleGroups.Of(Mixed, Mixed, Mixed, Mixed), 0));
        Assert.Equal(0, sampling.PromptsToAdd(SampleGroups.Of(Mixed, Wrong, Mixed, Right), 2)); // no refill is left
    }

    [Fact]
    public void First_groups_that_teach_something_are_kept_up_to_the_number_of_a_step()
    {
        var rollouts = SampleGroups.Of(Wrong, Mixed, Right, Mixed, [0.5, 0.5, 0.25], Mixed);
        Assert.Equal([1, 3, 4], Groups(new DynamicSampling(3, 1).Kept(rollouts)));
        Assert.Equal(9, new DynamicSampling(3, 1).Kept(rollouts).Count);
        Assert.Same(rollouts, new DynamicSampling(3, 0).Kept(rollouts));
    }

    [Fact]
    public void Step_in_which_nothing_teaches_keeps_all_groups()
    {
        var rollouts = SampleGroups.Of(Wrong, Right);
        Assert.Same(rollouts, new DynamicSampling(2, 3).Kept(rollouts));
        Assert.Equal([new("groups_sampled", 2), new("groups_trained", 0)], new DynamicSampling(2, 3).Metrics(rollouts));
        Assert.Empty(new DynamicSampling(2, 0).Metrics(rollouts));
    }
}
