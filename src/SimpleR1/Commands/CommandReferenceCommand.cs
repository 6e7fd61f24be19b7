using System.CommandLine;

namespace SimpleR1.Commands;

internal static class CommandReferenceCommand
{
    public static Command Create()
    {
        var command = new Command("command-reference", "Print every command with its options (docs/commands.md)");
        command.SetAction(parse =>
            Console.Write(CommandReference.Markdown(parse.RootCommandResult.Command.Subcommands))
        );
        return command;
    }
}
