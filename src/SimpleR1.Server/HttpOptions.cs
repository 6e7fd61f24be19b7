using System.Net;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Server;

/// <summary>Where the server listens, who may use it, and how much of it.</summary>
public sealed record HttpOptions
{
    public IPAddress Host { get; init; } = IPAddress.Loopback;

    /// <summary>0 is any free one.</summary>
    public int Port { get; init; } = 8000;

    /// <summary>Bearer keys; with none, only this machine may ask.</summary>
    public IReadOnlyList<string> ApiKeys { get; init; } = [];

    /// <summary>Speaks HTTPS with it; null speaks HTTP.</summary>
    public TlsCertificate? Certificate { get; init; }

    /// <summary>How chat messages become a prompt: a built-in template's name or a text with {question}; null refuses chat.</summary>
    public string? ChatTemplate { get; init; }
    public HttpLimits Limits { get; init; } = new();

    /// <summary>Lets a trainer send weights, by vLLM's protocol (docs/vllm.md): without a cluster key, whoever may ask may then also change the model.</summary>
    public bool WeightUpdates { get; init; }

    /// <summary>With it, weights are taken on the admin port only, where both ends of a connection must prove that they have it. By TCP they are encrypted on their way; NCCL, between GPUs, encrypts nothing.</summary>
    public ClusterKey? ClusterKey { get; init; }

    /// <summary>For a trainer's group to form, and for the trainer to send more.</summary>
    public TimeSpan WeightTimeout { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>0 is any free one.</summary>
    public int AdminPort { get; init; }

    /// <summary>How long requests in flight may go on when the server is told to stop.</summary>
    public TimeSpan DrainTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>One line about each thing that a person should know: a bug behind a 500, for one.</summary>
    public Action<string> Log { get; init; } = Console.Error.WriteLine;

    /// <exception cref="ArgumentException">Some options are out of range, or would let anyone in; all are named.</exception>
    public void Check()
    {
        var problems = new List<string>();
        void Require(bool holds, string problem)
        {
            if (!holds)
                problems.Add(problem);
        }
        Require(
            ApiKeys.Count > 0 || IPAddress.IsLoopback(Host),
            $"--host {Host} lets every machine that reaches this one use the model: give --api-key KEY (or SIMPLE_R1_API_KEY) to say who may, or listen on 127.0.0.1"
        );
        Require(
            ApiKeys.All(key => key.Length >= 8 && key.All(c => c is > ' ' and < '\x7f')),
            "--api-key: expected at least 8 printable ASCII characters without spaces"
        );
        Require(Port is >= 0 and <= 65535, $"--port: expected 0 (any free one) .. 65535, found {Port}");
        Require(AdminPort is >= 0 and <= 65535, $"--admin-port: expected 0 (any free one) .. 65535, found {AdminPort}");
        Require(
            AdminPort == 0 || AdminPort != Port,
            $"--admin-port: {AdminPort} is the --port; take another, or 0 for any free one"
        );
        Require(
            ClusterKey is not null || AdminPort == 0,
            "--admin-port is for those who have the cluster key: give --key @FILE (or SIMPLE_R1_KEY) too"
        );
        Require(
            WeightUpdates || ClusterKey is null && AdminPort == 0,
            "--key and --admin-port protect what --weight-updates adds: give that too, or none of them"
        );
        Require(
            DrainTimeout >= TimeSpan.Zero,
            $"--drain-timeout: expected 0 seconds or more, found {DrainTimeout.TotalSeconds}"
        );
        foreach (var (name, value, least) in Limits.All)
            Require(value >= least, $"{name}: expected at least {least}, found {value}");
        if (problems.Count > 0)
            throw new ArgumentException(string.Join("\n  ", ["the server can't start:", .. problems]));
    }
}

/// <summary>What one client, and all together, may ask of the server. Whoever asks for more is told so, with a 4xx.</summary>
public sealed record HttpLimits
{
    /// <summary>Of a request's body (413).</summary>
    public int BodyKib { get; init; } = 8 << 10;

    /// <summary>Of all bodies that are being received or read (429).</summary>
    public int BodiesMib { get; init; } = 256;

    /// <summary>Of a request's headers together (431).</summary>
    public int HeaderKib { get; init; } = 16;

    /// <summary>Nesting of a JSON body (400).</summary>
    public int JsonDepth { get; init; } = 16;

    /// <summary>Of one prompt (400); 0 is what the context leaves.</summary>
    public int PromptTokens { get; init; }

    /// <summary>Completions of one prompt (400).</summary>
    public int N { get; init; } = 128;

    /// <summary>Sequences that wait for the engine, besides those that it runs (429); also the most of one request (400).</summary>
    public int Queue { get; init; } = 1024;

    /// <summary>Open connections (429).</summary>
    public int Connections { get; init; } = 4096;

    /// <summary>Seconds from a request's first byte to the end of its headers (408).</summary>
    public int HeaderSeconds { get; init; } = 10;

    /// <summary>Seconds that a connection may be open without a request.</summary>
    public int IdleSeconds { get; init; } = 60;

    /// <summary>Bytes a second of a body on its way in (408), and of an answer that the client is slow to take (the connection ends), after 5 seconds.</summary>
    public int BytesPerSecond { get; init; } = 240;

    internal IEnumerable<(string Name, int Value, int Least)> All =>
        [
            ("--max-body-kib", BodyKib, 1),
            ("--max-bodies-mib", BodiesMib, 1),
            ("--max-header-kib", HeaderKib, 1),
            ("--max-json-depth", JsonDepth, 4),
            ("--max-prompt-tokens", PromptTokens, 0),
            ("--max-n", N, 1),
            ("--max-queue", Queue, 1),
            ("--max-connections", Connections, 1),
            ("--header-timeout", HeaderSeconds, 1),
            ("--idle-timeout", IdleSeconds, 1),
            ("--min-bytes-per-second", BytesPerSecond, 1),
        ];
}
