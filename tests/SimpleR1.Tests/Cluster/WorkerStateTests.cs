using SimpleR1.Cluster;
using Xunit;

namespace SimpleR1.Tests.Cluster;

public sealed class WorkerStateTests
{
    private static readonly WorkerState[] All = Enum.GetValues<WorkerState>();

    /// <summary>
    /// Every pair of states. Rows are from, columns to, in the enum's order: Joining, Waiting, Receiving, Ready, Suspect, Draining,
    /// Dead.
    /// </summary>
    private static readonly string[] Table =
    [
        "-W----D",
        "--R--LD",
        "-W-Y--D",
        "-WR-SLD",
        "-WRY-LD",
        "------D",
        "-------",
    ];

    [Fact]
    public void Every_transition_is_allowed_or_refused_as_the_table_says()
    {
        Assert.Equal(All.Length, Table.Length);
        foreach (var from in All)
        foreach (var to in All)
            Assert.True(from.MayBecome(to) == (Table[(int)from][(int)to] != '-'), $"{from} to {to}");
    }

    [Fact]
    public void Dead_is_reachable_from_every_state_and_final()
    {
        Assert.All(All.Where(s => s != WorkerState.Dead), s => Assert.True(s.MayBecome(WorkerState.Dead)));
        Assert.All(All, s => Assert.False(WorkerState.Dead.MayBecome(s)));
    }

    [Fact]
    public void Ready_is_reached_through_receiving_only() =>
        Assert.Equal([WorkerState.Receiving, WorkerState.Suspect], All.Where(s => s.MayBecome(WorkerState.Ready)));

    /// <summary>A worker is Ready only after it has received weights, and receives only after it has an engine.</summary>
    [Fact]
    public void No_path_leads_to_ready_around_receiving()
    {
        var reached = new HashSet<WorkerState> { WorkerState.Joining };
        for (int before = -1; before != reached.Count; )
        {
            before = reached.Count;
            foreach (var from in reached.ToArray())
            foreach (var to in All)
                if (from.MayBecome(to) && to != WorkerState.Receiving)
                    reached.Add(to);
        }
        Assert.Equal(
            [WorkerState.Joining, WorkerState.Waiting, WorkerState.Draining, WorkerState.Dead],
            reached.Order()
        );
        Assert.DoesNotContain(WorkerState.Joining, All.Where(s => s.MayBecome(WorkerState.Receiving)));
    }

    [Fact]
    public void A_worker_that_was_asked_to_leave_gets_neither_work_nor_weights_again() =>
        Assert.Equal([WorkerState.Dead], All.Where(s => WorkerState.Draining.MayBecome(s)));
}
