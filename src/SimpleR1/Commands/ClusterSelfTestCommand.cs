using System.CommandLine;
using SimpleR1.Bench;

namespace SimpleR1.Commands;

internal static class ClusterSelfTestCommand
{
    public static Command Create()
    {
        var workers = new Option<int>("--workers") { Description = "Worker processes", DefaultValueFactory = _ => 2 };
        var keepBusy = new Option<bool>("--keep-busy") { Description = "Go on until Ctrl-C" };
        var command = new Command(
            "cluster-selftest",
            "Start worker processes with a tiny random model, send weights, sample, and print what happened"
        )
        {
            workers,
            keepBusy,
        };
        command.SetAction(
            (parse, _) =>
                CommandErrors.RunAsync(async () =>
                {
                    using var interrupts = new Interrupts("stopping");
                    await ClusterSelfTest.RunAsync(
                        Console.Out,
                        new() { Workers = parse.GetValue(workers) },
                        parse.GetValue(keepBusy),
                        interrupts.Token
                    );
                    return 0;
                })
        );
        return command;
    }
}
