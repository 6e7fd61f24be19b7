using System.CommandLine;
using SimpleR1.Bench;
using SimpleR1.Commands.Options;
using SimpleR1.Screen;

namespace SimpleR1.Commands.Cluster;

internal static class ClusterSelfTestCommand
{
    public static Command Create()
    {
        var command = new Command(
            "cluster-selftest",
            "Start worker processes with a tiny random model, send weights, sample, and print what happened"
        );
        var workers = command.AddDefault("--workers", 2).Describe("Worker processes");
        var keepBusy = command.AddOption<bool>("--keep-busy").Describe("Continue until Ctrl-C");
        command.SetHandler(async parse =>
        {
            using var interrupts = new Interrupts("stopping");
            await ClusterSelfTest.RunAsync(
                Console.Out,
                new() { Workers = parse.GetValue(workers) },
                parse.GetValue(keepBusy),
                interrupts.Token
            );
            return 0;
        });
        return command;
    }
}
