using System.CommandLine;
using SimpleR1.Server;

namespace SimpleR1.Commands.Options;

/// <summary>What clients may ask of the server; the status of a refusal is in brackets.</summary>
internal sealed class LimitOptions(Command command)
{
    private static readonly HttpLimits Defaults = new();

    // What a request may ask for.
    private readonly Option<int> promptTokens = command
        .AddDefault("--max-prompt-tokens", Defaults.PromptTokens)
        .Describe("Longest prompt (400); 0 is what the context leaves");
    private readonly Option<int> n = command
        .AddDefault("--max-n", Defaults.N)
        .Describe("Completions of one prompt (400)");
    private readonly Option<int> queue = command
        .AddDefault("--max-queue", Defaults.Queue)
        .Describe("Sequences that wait, in addition to those that run (429)");

    // How large a request may be.
    private readonly Option<int> body = command
        .AddDefault("--max-body-kib", Defaults.BodyKib)
        .Describe("Size of a request's body (413)");
    private readonly Option<int> bodies = command
        .AddDefault("--max-bodies-mib", Defaults.BodiesMib)
        .Describe("Memory for all bodies that are being received (429)");
    private readonly Option<int> header = command
        .AddDefault("--max-header-kib", Defaults.HeaderKib)
        .Describe("Size of a request's headers (431)");
    private readonly Option<int> depth = command
        .AddDefault("--max-json-depth", Defaults.JsonDepth)
        .Describe("Nesting of a request's JSON (400)");

    // How many connections there may be, and how slow they may be.
    private readonly Option<int> connections = command
        .AddDefault("--max-connections", Defaults.Connections)
        .Describe("Open connections (429)");
    private readonly Option<int> headerTimeout = command
        .AddDefault("--header-timeout", Defaults.HeaderSeconds)
        .Describe("Seconds for a request's headers to arrive (408)");
    private readonly Option<int> idleTimeout = command
        .AddDefault("--idle-timeout", Defaults.IdleSeconds)
        .Describe("Seconds that a connection may be open without a request");
    private readonly Option<int> rate = command
        .AddDefault("--min-bytes-per-second", Defaults.BytesPerSecond)
        .Describe("Least speed at which a client must send a body (408) and take an answer");

    public HttpLimits Read(ParseResult parse) =>
        new()
        {
            PromptTokens = parse.GetValue(promptTokens),
            N = parse.GetValue(n),
            Queue = parse.GetValue(queue),

            BodyKib = parse.GetValue(body),
            BodiesMib = parse.GetValue(bodies),
            HeaderKib = parse.GetValue(header),
            JsonDepth = parse.GetValue(depth),

            Connections = parse.GetValue(connections),
            HeaderSeconds = parse.GetValue(headerTimeout),
            IdleSeconds = parse.GetValue(idleTimeout),
            BytesPerSecond = parse.GetValue(rate),
        };
}
