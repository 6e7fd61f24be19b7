namespace SimpleR1.Server;

/// <summary>
/// What one client, and all clients together, may ask of the server. Anything more is refused with a 4xx.
/// </summary>
public sealed record HttpLimits
{
    /// <summary>KiB of a request's body (413).</summary>
    public int BodyKib { get; init; } = 8 << 10;

    /// <summary>MiB of all bodies that are being received or read (429).</summary>
    public int BodiesMib { get; init; } = 256;

    /// <summary>KiB of a request's headers together (431).</summary>
    public int HeaderKib { get; init; } = 16;

    /// <summary>Nesting of a JSON body (400).</summary>
    public int JsonDepth { get; init; } = 16;

    /// <summary>Tokens of one prompt (400); 0 is what the context leaves.</summary>
    public int PromptTokens { get; init; }

    /// <summary>Completions of one prompt (400).</summary>
    public int N { get; init; } = 128;

    /// <summary>
    /// Sequences that wait for the engine, in addition to those that run (429); also the most of one request (400).
    /// </summary>
    public int Queue { get; init; } = 1024;

    /// <summary>Open connections (429).</summary>
    public int Connections { get; init; } = 4096;

    /// <summary>Seconds from a request's first byte to the end of its headers (408).</summary>
    public int HeaderSeconds { get; init; } = 10;

    /// <summary>Seconds that a connection may be open without a request.</summary>
    public int IdleSeconds { get; init; } = 60;

    /// <summary>
    /// Least bytes a second, after the first 5 seconds, at which a client must send a body (408) and take an answer
    /// (the connection ends).
    /// </summary>
    public int BytesPerSecond { get; init; } = 240;

    internal long BodyBytes => (long)BodyKib << 10;

    /// <summary>Every limit by the name of its option, with the least value that it may have.</summary>
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
