using SimpleR1.Cluster;
using SimpleR1.Cluster.Head;
using SimpleR1.Cluster.Wire;
using Xunit;

namespace SimpleR1.Tests.Cluster;

public sealed class RosterTests
{
    private readonly Roster roster = new();

    private static HelloMessage Hello(string name, string instance, MemberRole role = MemberRole.Worker) =>
        HelloMessage.Create(role, name, instance, "cpu") with
        {
            Host = "host",
            ProcessId = 7,
        };

    private string? Add(HelloMessage hello) => roster.Add(hello, out _);

    [Fact]
    public void Name_belongs_to_the_process_that_lives_and_goes_to_the_next_when_it_is_gone()
    {
        var (first, anew, second) = (Hello("a", "1"), Hello("a", "1"), Hello("a", "2"));
        Assert.Null(Add(first));
        Assert.Null(Add(anew)); // the same process, connected anew
        roster.Disconnected(first); // only now the end of its first connection is noticed
        Assert.False(roster.Forget(first));
        Assert.Contains("another --name", Add(second));
        Assert.False(roster.Heard(anew, null, null));
        roster.Disconnected(anew);
        Assert.Null(roster.Add(second, out var replaced));
        Assert.Equal("1", replaced!.Instance);
        Assert.False(roster.Forget(anew)); // its successor is there
        Assert.Null(roster.Heard(anew, null, null));
        Assert.Equal("a", Assert.Single(roster.Entries().Workers).Name);
        roster.Disconnected(second);
        Assert.True(roster.Forget(second));
        Assert.Empty(roster.Entries().Workers);
    }

    [Fact]
    public void Drain_reaches_the_worker_with_its_next_report_and_no_other()
    {
        Add(Hello("a", "1"));
        Add(Hello("b", "2"));
        Assert.Contains("there are: a, b", roster.Drain("c"));
        Assert.Null(roster.Drain("a"));
        WorkerReport report = new()
        {
            State = "ready",
            WeightVersion = 3,
            Running = 2,
            Waiting = 1,
            TokensPerSecond = 10,
            MemoryBytes = 1 << 20,
        };
        Assert.True(roster.Heard(Hello("a", "1"), report, null));
        Assert.False(roster.Heard(Hello("b", "2"), report, null));
        Assert.Equal(["draining", "ready"], roster.Entries().Workers.Select(w => w.State));
        Add(Hello("a", "1")); // connected anew: still asked to leave
        Assert.True(roster.Heard(Hello("a", "1"), report, null));
    }

    [Fact]
    public void One_trainer_at_a_time_whose_view_of_a_worker_counts()
    {
        Add(Hello("a", "1"));
        roster.Heard(Hello("a", "1"), new() { State = "ready", WeightVersion = 3 }, null);
        var t = Hello("t", "x", MemberRole.Trainer);
        Assert.Null(Add(t));
        Assert.Contains("one trainer at a time", Add(Hello("u", "y", MemberRole.Trainer)));
        TrainerReport View(WorkerState state) =>
            new(
                WeightVersion: 3,
                Queued: 5,
                [
                    new()
                    {
                        Number = 1,
                        Name = "a",
                        Instance = "1",
                        ProcessId = 7,
                        State = state,
                        WeightVersion = 3,
                        OutstandingTokens = 100,
                    },
                ]
            );
        roster.Heard(Hello("t", "x", MemberRole.Trainer), null, View(WorkerState.Suspect));
        var (trainer, workers) = roster.Entries();
        Assert.Equal((3, 5), (trainer!.WeightVersion, trainer.Queued));
        Assert.Equal(("suspect", 100L), (workers[0].State, workers[0].OutstandingTokens));
        Assert.Empty(roster.Condemned());
        roster.Heard(Hello("t", "x", MemberRole.Trainer), null, View(WorkerState.Dead));
        Assert.Equal("1", Assert.Single(roster.Condemned()).Instance);
        Assert.Empty(roster.Condemned()); // once
        roster.Heard(Hello("u", "y", MemberRole.Trainer), null, View(WorkerState.Ready)); // a stranger's view
        Assert.Equal("dead", roster.Entries().Workers[0].State);
        roster.Disconnected(t);
        Assert.Null(Add(Hello("u", "y", MemberRole.Trainer)));
    }
}
