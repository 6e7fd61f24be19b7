using System.Net;
using SimpleR1.Models.Prompts;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Server;

/// <summary>Where the server listens, who may use it, and how much of it.</summary>
public sealed record HttpOptions
{
    public IPAddress Host { get; init; } = IPAddress.Loopback;

    /// <summary>The port of the API; 0 picks a free one.</summary>
    public int Port { get; init; } = 8000;

    /// <summary>Bearer keys of the clients; without any, only this machine may use the API.</summary>
    public IReadOnlyList<string> ApiKeys { get; init; } = [];

    /// <summary>The certificate of HTTPS; null serves HTTP.</summary>
    public TlsCertificate? Certificate { get; init; }

    /// <summary>How chat messages become a prompt; null refuses chat.</summary>
    public PromptTemplate? ChatTemplate { get; init; }
    public HttpLimits Limits { get; init; } = new();

    /// <summary>
    /// Lets a trainer send weights by vLLM's protocol (docs/vllm.md). Without a cluster key, every client of the API
    /// may then also change the model.
    /// </summary>
    public bool WeightUpdates { get; init; }

    /// <summary>
    /// Takes weights on the admin port only, where both ends of a connection must prove that they have this key.
    /// Weights sent by TCP are then encrypted; NCCL, between GPUs, encrypts nothing.
    /// </summary>
    public ClusterKey? ClusterKey { get; init; }

    /// <summary>How long a trainer's group may take to form, and how long the trainer may take to send more.</summary>
    public TimeSpan WeightTimeout { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>The port where weights are taken; 0 picks a free one.</summary>
    public int AdminPort { get; init; }

    /// <summary>How long requests in flight may continue after the server is asked to stop.</summary>
    public TimeSpan DrainTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Takes one line about each request; null writes none.</summary>
    public Action<string>? AccessLog { get; init; }

    /// <summary>Takes one line about each thing that a person should know, such as the bug behind a 500.</summary>
    public Action<string> Log { get; init; } = Console.Error.WriteLine;

    /// <exception cref="ArgumentException">
    /// Some options are out of range, or would let anyone in; all are named.
    /// </exception>
    public void Check()
    {
        string[] problems = [.. AccessProblems(), .. PortProblems(), .. LimitProblems()];
        if (problems.Length > 0)
            throw new ArgumentException(string.Join("\n  ", ["the server can't start:", .. problems]));
    }

    private IEnumerable<string> AccessProblems()
    {
        if (ApiKeys.Count == 0 && !IPAddress.IsLoopback(Host))
            yield return $"--host {Host} lets every machine that reaches this one use the model: protect it with "
                + "--api-key KEY (or SIMPLE_R1_API_KEY), or listen on 127.0.0.1";
        if (!ApiKeys.All(key => key.Length >= 8 && key.All(c => c is > ' ' and < '\x7f')))
            yield return "--api-key: expected at least 8 printable ASCII characters without spaces";
        if (ClusterKey is null && AdminPort != 0)
            yield return "--admin-port is for those who have the cluster key: give --key @FILE (or SIMPLE_R1_KEY) too";
        if (!WeightUpdates && (ClusterKey is not null || AdminPort != 0))
            yield return "--key and --admin-port protect what --weight-updates adds: give that too, or neither of them";
    }

    private IEnumerable<string> PortProblems()
    {
        if (Port is < 0 or > 65535)
            yield return $"--port: expected 0 (any free one) .. 65535, found {Port}";
        if (AdminPort is < 0 or > 65535)
            yield return $"--admin-port: expected 0 (any free one) .. 65535, found {AdminPort}";
        if (AdminPort != 0 && AdminPort == Port)
            yield return $"--admin-port: {AdminPort} is the --port; choose another, or 0 for any free one";
    }

    private IEnumerable<string> LimitProblems()
    {
        if (DrainTimeout < TimeSpan.Zero)
            yield return $"--drain-timeout: expected 0 seconds or more, found {DrainTimeout.TotalSeconds}";
        foreach (var (name, value, least) in Limits.All)
            if (value < least)
                yield return $"{name}: expected at least {least}, found {value}";
    }
}
