using System.CommandLine;
using SimpleR1.Cluster.Membership;

namespace SimpleR1.Commands;

internal static class DrainCommand
{
    public static Command Create()
    {
        var worker = new Argument<string>("worker") { Description = "Its name, as simple-r1 status shows it" };
        var join = ClusterOption.Join(required: true);
        var key = ClusterOption.Key();
        var command = new Command("drain", "Have a worker take no more work, finish what it has, and leave")
        {
            worker,
            join,
            key,
        };
        command.SetAction(
            (parse, _) =>
                CommandErrors.RunAsync(async () =>
                {
                    string name = parse.GetValue(worker)!;
                    await ClusterClient.DrainAsync(ClusterOption.Head(parse, join, key), name, CancellationToken.None);
                    Console.WriteLine($"{name} finishes what it has and leaves");
                    return 0;
                })
        );
        return command;
    }
}
