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
        command.AddArgument("what").Describe("new: a new random key").AcceptOnlyFromAmong("new");
        var file = command
            .AddOption<string?>("--out")
            .Describe("File to write it to, for its owner alone; default: print it");
        var overwrite = command.AddOption<bool>("--overwrite").Describe("Replace the file if it exists");
        command.SetHandler(parse =>
        {
            string key = ClusterKey.NewText();
            if (parse.GetValue(file) is { } path)
                SecretText.Write(path, key, parse.GetValue(overwrite));
            else
                Console.WriteLine(key);
        });
        return command;
    }
}
