using System.CommandLine;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Processes;
using SimpleR1.Commands.Options;
using SimpleR1.Screen;

namespace SimpleR1.Commands.Cluster;

internal static class WorkerCommand
{
    public static Command Create()
    {
        var command = new Command("worker", "Compute for a cluster: one process a device, restarted when it dies");
        var options = new WorkerMachineSettings(command);
        command.SetHandler(async parse =>
        {
            using var interrupts = new Interrupts("finishing what runs, then leaving");
            await using var workers = WorkerMachine.Start(options.Read(parse));
            return await workers.RunAsync(interrupts.Token) ? 0 : 1;
        });
        return command;
    }

    private sealed class WorkerMachineSettings(Command command)
    {
        private readonly JoinOptions join = new(command, required: true);
        private readonly Option<string> device = command
            .AddDefault("--device", WorkerSettings.DefaultDevice)
            .Describe("cpu, cuda, cuda:N, several with commas (a process each), or all: every GPU, else the CPU");
        private readonly Option<string> type = DeviceOptions.AddType(command);
        private readonly Option<string?> name = command
            .AddOption<string?>("--name")
            .Describe("The worker's name in the cluster; default: this machine's name and the device");
        private readonly Option<int> threads = command
            .AddDefault("--threads", 0)
            .Describe("Threads of the worker's tensor code; 0 is all cores");
        private readonly Option<int> siloPort = command
            .AddDefault("--silo-port", 0)
            .Describe("Port at which the trainer reaches the worker; 0 picks a free one");
        private readonly Option<int> drainTimeout = command
            .AddDefault("--drain-timeout", 30)
            .Describe("Seconds to finish running work after SIGTERM or drain");

        public WorkerMachineOptions Read(ParseResult parse) =>
            new()
            {
                Head = join.Head(parse),
                Name = parse.GetValue(name) ?? Environment.MachineName,
                Worker = new()
                {
                    Device = parse.GetValue(device)!,
                    Type = DeviceOptions.ParseType(parse.GetValue(type)!).Name,
                    Threads = parse.GetValue(threads),
                    SiloPort = parse.GetValue(siloPort),
                    DrainTimeout = TimeSpan.FromSeconds(parse.GetValue(drainTimeout)),
                },
                Log = line => Console.WriteLine($"{DateTime.Now:HH:mm:ss} {line}"),
            };
    }
}
