using System.CommandLine;
using System.Text.Json;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Membership;
using SimpleR1.Commands.Options;
using SimpleR1.Screen;
using static System.FormattableString;

namespace SimpleR1.Commands.Cluster;

internal static class StatusCommand
{
    private static readonly JsonSerializerOptions Json = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
    };
    private static readonly TimeSpan WatchInterval = TimeSpan.FromSeconds(1);

    /// <summary>Characters of a line where output does not go to a terminal.</summary>
    private const int PlainWidth = 200;

    private static readonly TextTable Table = new([
        new("worker", 6, Rank: 0) { IsText = true },
        new("host", 4, Rank: 5) { IsText = true },
        new("device", 6, Rank: 4) { IsText = true },
        new("process", 7, Rank: 8),
        new("state", 5, Rank: 0) { IsText = true },
        new("version", 7, Rank: 2),
        new("running", 7, Rank: 3),
        new("waiting", 7, Rank: 6),
        new("queue tokens", 12, Rank: 9),
        new("tokens/s", 8, Rank: 1),
        new("memory MiB", 10, Rank: 7),
        new("heartbeat", 9, Rank: 10),
    ]);

    public static Command Create()
    {
        var command = new Command(
            "status",
            "Show a cluster: workers, devices, weight versions, queues, speed, last heartbeats"
        );
        var join = new JoinOptions(command, required: true);
        var json = command.AddOption<bool>("--json").Describe("Print JSON, for programs");
        var watch = command.AddOption<bool>("--watch").Describe("Repeat every second, until Ctrl-C");
        command.SetHandler(async parse =>
        {
            using var interrupts = new Interrupts("stopping");
            bool watches = parse.GetValue(watch);
            do
            {
                var status = await ClusterClient.StatusAsync(join.Head(parse), interrupts.Token);
                if (parse.GetValue(json))
                    Console.WriteLine(JsonSerializer.Serialize(status, Json));
                else
                    Print(status, clear: watches && !Console.IsOutputRedirected);
            } while (watches && await WaitAsync(interrupts.Token));
            return 0;
        });
        return command;
    }

    /// <returns>False if the wait was interrupted.</returns>
    private static async Task<bool> WaitAsync(CancellationToken interrupted)
    {
        await Task.Delay(WatchInterval, interrupted).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return !interrupted.IsCancellationRequested;
    }

    private static void Print(ClusterStatus status, bool clear)
    {
        if (clear)
            Console.Write("\x1b[H\x1b[2J");
        int width = Console.IsOutputRedirected ? PlainWidth : Terminal.Width;
        foreach (string line in Lines(status, width))
            Console.WriteLine(line);
    }

    /// <summary>What the command shows of a cluster, in lines of at most so many characters.</summary>
    internal static IEnumerable<string> Lines(ClusterStatus status, int width)
    {
        yield return Terminal.Cut(
            $"head {status.Head}, membership {status.Membership}, up {Durations.Text(status.UptimeSeconds)}",
            width
        );
        string trainer = status.Trainer is { } t
            ? $"trainer {t.Name} on {t.Host} (process {t.ProcessId}): weights version {t.WeightVersion}, "
                + $"{Durations.Count(t.Queued, "sample")} queued, "
                + Invariant($"heard {t.HeartbeatSeconds:F1} s ago")
            : "no trainer";
        yield return Terminal.Cut(trainer, width);
        yield return "";
        foreach (string line in Table.Lines([.. status.Workers.Select(Row)], width))
            yield return line;
    }

    /// <summary>A worker's cells, in the order of the table's columns.</summary>
    private static string[] Row(WorkerEntry w) =>
        [
            w.Name,
            w.Host,
            w.Device,
            Invariant($"{w.ProcessId}"),
            w.State,
            w.WeightVersion < 0 ? "-" : Invariant($"{w.WeightVersion}"),
            Invariant($"{w.Running}"),
            Invariant($"{w.Waiting}"),
            Invariant($"{w.OutstandingTokens}"),
            Invariant($"{Math.Round(w.TokensPerSecond)}"),
            Invariant($"{w.MemoryBytes >> 20}"),
            Invariant($"{w.HeartbeatSeconds:F1} s"),
        ];
}
