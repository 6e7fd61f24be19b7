using System.CommandLine;
using SimpleR1.Cluster;

namespace SimpleR1.Commands.Options;

/// <summary>The head of a cluster, and the key that it asks for.</summary>
internal sealed class JoinOptions
{
    private readonly Option<string?> join;

    /// <param name="required">Whether the command has nothing to do without a head.</param>
    public JoinOptions(Command command, bool required)
    {
        join = command
            .AddOption<string?>("--join")
            .Describe(
                required
                    ? "HOST:PORT of the head"
                    : "HOST:PORT of a head whose workers to use; without it, workers are started here"
            );
        join.Required = required;
        Key = new(command);
    }

    public KeyOption Key { get; }

    /// <summary>The head; null if none was given.</summary>
    public HeadAddress? HeadOrNull(ParseResult parse) =>
        parse.GetValue(join) is { } address ? new(address, Key.Read(parse)) : null;

    /// <summary>The head of a command that requires one.</summary>
    public HeadAddress Head(ParseResult parse) => HeadOrNull(parse)!;
}
