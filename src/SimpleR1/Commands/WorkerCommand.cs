using System.CommandLine;
using SimpleR1.Cluster;

namespace SimpleR1.Commands;

internal static class WorkerCommand
{
    public static Command Create()
    {
        var join = ClusterOption.Join(required: true);
        var key = ClusterOption.Key();
        var device = new Option<string>("--device") { Description = "cpu, cuda:N, or all for one process a device; this version computes on CPUs only", DefaultValueFactory = _ => "cpu" };
        var name = new Option<string?>("--name") { Description = "What it is called in the cluster (default: this machine's name and the device)" };
        var threads = new Option<int>("--threads") { Description = "Threads of its tensor code; 0 is all cores", DefaultValueFactory = _ => 0 };
        var siloPort = new Option<int>("--silo-port") { Description = "Port that the trainer reaches it by; 0 is any free one", DefaultValueFactory = _ => 0 };
        var drainTimeout = ClusterOption.DrainTimeout();
        var command = new Command("worker", "Compute for a cluster: one process a device, started again when it dies") { join, key, device, name, threads, siloPort, drainTimeout };
        command.SetAction((parse, _) => CommandErrors.RunAsync(async () =>
        {
            using var interrupts = new Interrupts("finishing what runs, then leaving");
            await using var workers = WorkerMachine.Start(new()
            {
                Head = ClusterOption.Head(parse, join, key),
                Devices = Devices(parse.GetValue(device)!),
                Name = parse.GetValue(name) ?? Environment.MachineName,
                Threads = parse.GetValue(threads),
                SiloPort = parse.GetValue(siloPort),
                DrainTimeout = TimeSpan.FromSeconds(parse.GetValue(drainTimeout)),
                Say = line => Console.WriteLine($"{DateTime.Now:HH:mm:ss} {line}"),
            });
            return await workers.RunAsync(interrupts.Token) ? 0 : 1;
        }));
        return command;
    }

    /// <exception cref="NotSupportedException">A GPU: this version has no kernels for them.</exception>
    private static string[] Devices(string device) => device switch
    {
        "cpu" or "all" => ["cpu"],
        _ when device.StartsWith("cuda", StringComparison.Ordinal) => throw new NotSupportedException($"--device {device}: this version computes on CPUs only; use --device cpu"),
        _ => throw new ArgumentException($"--device: expected cpu, cuda:N or all, found '{device}'"),
    };
}
