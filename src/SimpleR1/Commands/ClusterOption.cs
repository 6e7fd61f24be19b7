using System.CommandLine;
using SimpleR1.Cluster.Membership;
using SimpleR1.Cluster.Worker;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Commands;

/// <summary>Options that several commands of a cluster share.</summary>
internal static class ClusterOption
{
    public static Option<string?> Join(bool required) =>
        new("--join")
        {
            Description = required
                ? "HOST:PORT of the head"
                : "HOST:PORT of a head whose workers to use; without it, workers are started here",
            Required = required,
        };

    public static Option<string?> Key() =>
        new("--key")
        {
            Description =
                $"The cluster's key (from simple-r1 key new), or @FILE that holds it; by default ${WorkerProcess.KeyVariable}",
        };

    public static Option<int> DrainTimeout() =>
        new("--drain-timeout")
        {
            Description = "Seconds to finish running work after SIGTERM or drain",
            DefaultValueFactory = _ => 30,
        };

    /// <summary>The key that was given; null for none.</summary>
    /// <exception cref="ArgumentException">It is not whole.</exception>
    public static ClusterKey? Read(string? given)
    {
        string? text = given is ['@', .. var file]
            ? File.ReadAllText(file).Trim()
            : given ?? Environment.GetEnvironmentVariable(WorkerProcess.KeyVariable);
        return string.IsNullOrEmpty(text) ? null : ClusterKey.Parse(text);
    }

    public static HeadAddress Head(ParseResult parse, Option<string?> join, Option<string?> key) =>
        new(parse.GetValue(join)!, Read(parse.GetValue(key)));
}
