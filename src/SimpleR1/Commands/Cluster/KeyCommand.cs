using System.CommandLine;
using SimpleR1.Commands.Options;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Commands.Cluster;

internal static class KeyCommand
{
    public static Command Create()
    {
        var command = new Command(
            "key",
            "Make a cluster key: it authenticates head, workers and trainers, and encrypts their messages"
        );
        command.AddArgument("what").Describe("new: print a new random key").AcceptOnlyFromAmong("new");
        command.SetAction(_ => Console.WriteLine(ClusterKey.NewText()));
        return command;
    }
}
