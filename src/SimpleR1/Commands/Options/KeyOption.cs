using System.CommandLine;
using SimpleR1.Cluster.Worker;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Commands.Options;

/// <summary>The cluster's key: from <c>--key</c>, a file or the environment.</summary>
internal sealed class KeyOption(Command command)
{
    private readonly Option<string?> key = command
        .AddOption<string?>("--key")
        .Describe($"Cluster key (simple-r1 key new) or @FILE that holds it; default: ${WorkerProcess.KeyVariable}");

    /// <summary>Whether the option itself was given, whatever the environment holds.</summary>
    public bool IsGiven(ParseResult parse) => parse.GetResult(key) is { Implicit: false };

    /// <summary>The key; null if there is none.</summary>
    /// <exception cref="ArgumentException">The key is incomplete.</exception>
    /// <exception cref="IOException">The key's file cannot be read.</exception>
    public ClusterKey? Read(ParseResult parse)
    {
        string? text = parse.GetValue(key) switch
        {
            ['@', .. var file] => File.ReadAllText(file).Trim(),
            { } given => given,
            null => Environment.GetEnvironmentVariable(WorkerProcess.KeyVariable),
        };
        return string.IsNullOrEmpty(text) ? null : ClusterKey.Parse(text);
    }
}
