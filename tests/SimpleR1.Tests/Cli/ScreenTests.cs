using SimpleR1.Cluster;
using SimpleR1.Commands.Cluster;
using SimpleR1.Screen;
using Xunit;

namespace SimpleR1.Tests.Cli;

public sealed class ScreenTests
{
    [Theory]
    [InlineData(0.4, "0 s")]
    [InlineData(59.4, "59 s")]
    [InlineData(59.7, "1:00 min")]
    [InlineData(725, "12:05 min")]
    [InlineData(18_420, "5:07 h")]
    [InlineData(2_653_868, "30 d 17 h")]
    [InlineData(double.NaN, "?")]
    public void Durations_are_in_units_that_fit(double seconds, string expected) =>
        Assert.Equal(expected, Durations.Text(seconds));

    [Fact]
    public void Counts_have_the_right_number()
    {
        Assert.Equal("1 step", Durations.Count(1, "step"));
        Assert.Equal("0 steps", Durations.Count(0, "step"));
    }

    private static ClusterStatus Status(int workers) =>
        new(
            "10.0.0.5:7400",
            "embedded",
            90_000,
            new()
            {
                Name = "quickstart",
                Host = "trainer-host",
                ProcessId = 4_194_303,
                WeightVersion = 12_345,
                Queued = 1,
                HeartbeatSeconds = 0.4,
            },
            [
                .. Enumerable
                    .Range(1, workers)
                    .Select(i => new WorkerEntry
                    {
                        Name = $"gpu-node-{i}/cuda:{i}",
                        Host = $"gpu-node-{i}.example.org",
                        Device = $"cuda:{i}",
                        ProcessId = 4_000_000 + i,
                        State = "ready",
                        WeightVersion = 12_345,
                        Running = 1_024,
                        Waiting = 17,
                        OutstandingTokens = 1_234_567,
                        TokensPerSecond = 64_900,
                        MemoryBytes = 12_345L << 20,
                        HeartbeatSeconds = 0.7,
                    }),
            ]
        );

    [Fact]
    public void Status_fits_every_width_from_80_to_200_and_shows_all_that_there_is_room_for()
    {
        for (int width = 80; width <= 200; width++)
        {
            string[] lines = [.. StatusCommand.Lines(Status(9), width)];
            Assert.All(lines, line => Assert.InRange(line.Length, 0, width));
            Assert.Equal(3 + 1 + 9, lines.Length);
            Assert.Contains("worker", lines[3]);
            Assert.Contains("state", lines[3]);
            Assert.Contains("gpu-node-9/cuda:9", lines[^1]);
            Assert.Contains("ready", lines[^1]);
        }
        string header = StatusCommand.Lines(Status(1), 200).ElementAt(3);
        foreach (string column in new[] { "host", "device", "process", "queue tokens", "memory MiB", "heartbeat" })
            Assert.Contains(column, header);
        Assert.Contains("1 sample queued", StatusCommand.Lines(Status(1), 200).ElementAt(1));
        Assert.Contains("up 1 d 01 h", StatusCommand.Lines(Status(1), 200).First());
    }

    [Fact]
    public void Rows_leave_out_the_least_useful_columns_first_and_stay_under_their_header()
    {
        var table = new TextTable([new("step", 5, Rank: 0), new("left", 6, Rank: 1), new("sync", 6, Rank: 2)]);
        Assert.Equal(" step    left    sync", table.Header(80));
        Assert.Equal("  7/9    12 s    3 ms", table.Row(["7/9", "12 s", "3 ms"], 80));
        Assert.Equal("  7/9    12 s", table.Row(["7/9", "12 s", "3 ms"], 20));
        Assert.Equal("  7/9", table.Row(["7/9", "12 s", "3 ms"], 10));
        Assert.Equal("step 7/9  left 12 s  sync 3 ms", table.Named(["7/9", "12 s", "3 ms"]));
    }

    [Theory]
    [InlineData("abcdef", 6, "abcdef")]
    [InlineData("abcdef", 5, "abcd…")]
    [InlineData("abcdef", 1, "a")]
    public void Text_is_cut_to_the_width(string text, int width, string expected) =>
        Assert.Equal(expected, Terminal.Cut(text, width));
}
