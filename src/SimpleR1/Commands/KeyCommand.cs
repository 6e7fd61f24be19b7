using System.CommandLine;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Commands;

internal static class KeyCommand
{
    public static Command Create()
    {
        var what = new Argument<string>("what") { Description = "new: print a new random key" };
        what.AcceptOnlyFromAmong("new");
        var command = new Command(
            "key",
            "Make a cluster key, by which head, workers and trainers know each other and encrypt what they say"
        )
        {
            what,
        };
        command.SetAction(_ => Console.WriteLine(ClusterKey.NewText()));
        return command;
    }
}
