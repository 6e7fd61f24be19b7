using SimpleR1.Cluster;
using Xunit;

namespace SimpleR1.Tests.Cluster;

public sealed class WorkerStateTests
{
    private static readonly WorkerState[] All = Enum.GetValues<WorkerState>();

    [Fact]
    public void Dead_is_reachable_from_every_state_and_final()
    {
        Assert.All(All.Where(s => s != WorkerState.Dead), s => Assert.True(s.MayBecome(WorkerState.Dead)));
        Assert.All(All, s => Assert.False(WorkerState.Dead.MayBecome(s)));
    }

    [Fact]
    public void Ready_is_reached_through_receiving_only() =>
        Assert.Equal([WorkerState.Receiving, WorkerState.Suspect], All.Where(s => s.MayBecome(WorkerState.Ready)));

    [Fact]
    public void Receiving_needs_an_engine() =>
        Assert.DoesNotContain(WorkerState.Joining, All.Where(s => s.MayBecome(WorkerState.Receiving)));
}
