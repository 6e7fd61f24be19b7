using System.CommandLine;
using SimpleR1.Cluster.Membership;
using SimpleR1.Commands.Options;

namespace SimpleR1.Commands.Cluster;

internal static class DrainCommand
{
    public static Command Create()
    {
        var command = new Command("drain", "Make a worker take no more work, finish what it has, and leave");
        var worker = command.AddArgument("worker").Describe("The worker's name, as simple-r1 status shows it");
        var join = new JoinOptions(command, required: true);
        command.SetHandler(async parse =>
        {
            string name = parse.GetValue(worker)!;
            await ClusterClient.DrainAsync(join.Head(parse), name, CancellationToken.None);
            Console.WriteLine($"{name} finishes what it has and leaves");
            return 0;
        });
        return command;
    }
}
