using System.CommandLine;
using SimpleR1.Cluster.Processes;
using SimpleR1.Cluster.Worker;

namespace SimpleR1.Commands;

internal static class WorkerCommand
{
    public static Command Create()
    {
        var join = ClusterOption.Join(required: true);
        var key = ClusterOption.Key();
        var device = new Option<string>("--device")
        {
            Description =
                "cpu, cuda, cuda:N, several with commas for a process each, or all: one process for every GPU, or the CPU where there is none",
            DefaultValueFactory = _ => "cpu",
        };
        var type = DeviceOptions.Type();
        var name = new Option<string?>("--name")
        {
            Description = "What it is called in the cluster (default: this machine's name and the device)",
        };
        var threads = new Option<int>("--threads")
        {
            Description = "Threads of its tensor code; 0 is all cores",
            DefaultValueFactory = _ => 0,
        };
        var siloPort = new Option<int>("--silo-port")
        {
            Description = "Port that the trainer reaches it by; 0 is any free one",
            DefaultValueFactory = _ => 0,
        };
        var drainTimeout = ClusterOption.DrainTimeout();
        var command = new Command("worker", "Compute for a cluster: one process a device, started again when it dies")
        {
            join,
            key,
            device,
            type,
            name,
            threads,
            siloPort,
            drainTimeout,
        };
        command.SetAction(
            (parse, _) =>
                CommandErrors.RunAsync(async () =>
                {
                    using var interrupts = new Interrupts("finishing what runs, then leaving");
                    await using var workers = WorkerMachine.Start(
                        new()
                        {
                            Head = ClusterOption.Head(parse, join, key),
                            Devices = WorkerDevices.Expand(parse.GetValue(device)!),
                            Type = parse.GetValue(type)!,
                            Name = parse.GetValue(name) ?? Environment.MachineName,
                            Threads = parse.GetValue(threads),
                            SiloPort = parse.GetValue(siloPort),
                            DrainTimeout = TimeSpan.FromSeconds(parse.GetValue(drainTimeout)),
                            Say = line => Console.WriteLine($"{DateTime.Now:HH:mm:ss} {line}"),
                        }
                    );
                    return await workers.RunAsync(interrupts.Token) ? 0 : 1;
                })
        );
        return command;
    }
}
