using System.CommandLine;
using System.Text.Json;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Membership;
using SimpleR1.Commands.Options;
using Spectre.Console;
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

    private static readonly string[] TextColumns = ["worker", "host", "device", "state"];
    private static readonly string[] Columns =
    [
        "worker",
        "host",
        "device",
        "process",
        "state",
        "version",
        "running",
        "waiting",
        "queue tokens",
        "tokens/s",
        "memory MiB",
        "heartbeat",
    ];

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
            AnsiConsole.Clear();
        Console.WriteLine(
            Invariant($"head {status.Head}, membership {status.Membership}, up {status.UptimeSeconds:F0} s")
        );
        Console.WriteLine(
            status.Trainer is { } t
                ? $"trainer {t.Name} on {t.Host} (process {t.ProcessId}): weights version {t.WeightVersion}, "
                    + Invariant($"{t.Queued} samples queued, heard {t.HeartbeatSeconds:F1} s ago")
                : "no trainer"
        );

        var table = new Table().Border(TableBorder.Simple).AddColumns(Columns);
        foreach (var (column, name) in table.Columns.Zip(Columns))
            if (!TextColumns.Contains(name))
                column.RightAligned();
        foreach (var worker in status.Workers)
            table.AddRow(Row(worker));
        AnsiConsole.Profile.Width = Math.Max(AnsiConsole.Profile.Width, 160);
        AnsiConsole.Write(table);
    }

    /// <summary>A worker's cells, in the order of <see cref="Columns"/>.</summary>
    private static string[] Row(WorkerEntry w) =>
        [
            Markup.Escape(w.Name),
            Markup.Escape(w.Host),
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
