using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using SimpleR1.Cluster.Head;
using SimpleR1.Cluster.Membership;
using Spectre.Console;

namespace SimpleR1.Commands;

internal static class StatusCommand
{
    private static readonly JsonSerializerOptions Json = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
    };
    private static readonly TimeSpan WatchEvery = TimeSpan.FromSeconds(1);

    public static Command Create()
    {
        var join = ClusterOption.Join(required: true);
        var key = ClusterOption.Key();
        var json = new Option<bool>("--json") { Description = "As JSON, for programs" };
        var watch = new Option<bool>("--watch") { Description = "Again every second, until Ctrl-C" };
        var command = new Command(
            "status",
            "Show a cluster: workers, devices, weight versions, queues, speed, last heartbeats"
        )
        {
            join,
            key,
            json,
            watch,
        };
        command.SetAction(
            (parse, _) =>
                CommandErrors.RunAsync(async () =>
                {
                    var head = ClusterOption.Head(parse, join, key);
                    using var interrupts = new Interrupts("stopping");
                    do
                    {
                        var status = await ClusterClient.StatusAsync(head, interrupts.Token);
                        if (parse.GetValue(json))
                            Console.WriteLine(JsonSerializer.Serialize(status, Json));
                        else
                            Show(status, clear: parse.GetValue(watch) && !Console.IsOutputRedirected);
                        if (!parse.GetValue(watch))
                            return 0;
                        try
                        {
                            await Task.Delay(WatchEvery, interrupts.Token);
                        }
                        catch (OperationCanceledException)
                        {
                            return 0;
                        }
                    } while (true);
                })
        );
        return command;
    }

    private static void Show(ClusterStatus status, bool clear)
    {
        if (clear)
            AnsiConsole.Clear();
        Console.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"head {status.Head}, membership {status.Membership}, up {status.UptimeSeconds:F0} s"
            )
        );
        Console.WriteLine(
            status.Trainer is { } t
                ? string.Create(
                    CultureInfo.InvariantCulture,
                    $"trainer {t.Name} on {t.Host} (process {t.ProcessId}): weights version {t.WeightVersion}, {t.Queued} samples queued, heard {t.HeartbeatSeconds:F1} s ago"
                )
                : "no trainer"
        );
        var table = new Table()
            .Border(TableBorder.Simple)
            .AddColumns(
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
                "heartbeat"
            );
        foreach (int column in (int[])[3, 5, 6, 7, 8, 9, 10, 11])
            table.Columns[column].RightAligned();
        foreach (var w in status.Workers)
            table.AddRow(
                Markup.Escape(w.Name),
                Markup.Escape(w.Host),
                w.Device,
                Text(w.ProcessId),
                w.State,
                w.WeightVersion < 0 ? "-" : Text(w.WeightVersion),
                Text(w.Running),
                Text(w.Waiting),
                Text(w.OutstandingTokens),
                Text(Math.Round(w.TokensPerSecond)),
                Text(w.MemoryBytes >> 20),
                string.Create(CultureInfo.InvariantCulture, $"{w.HeartbeatSeconds:F1} s")
            );
        AnsiConsole.Profile.Width = Math.Max(AnsiConsole.Profile.Width, 160);
        AnsiConsole.Write(table);

        static string Text<T>(T value)
            where T : IFormattable => value.ToString(null, CultureInfo.InvariantCulture);
    }
}
