using System.CommandLine;
using System.Net;
using SimpleR1.Models.Prompts;
using SimpleR1.Server;

namespace SimpleR1.Commands.Options;

/// <summary>The HTTP API: where it listens, who may use it, and how it renders chats.</summary>
/// <param name="prefix">Before the names of host and port, if the command has others.</param>
internal sealed class ApiOptions(Command command, string prefix = "")
{
    private readonly Option<string> host = command
        .AddDefault($"--{prefix}host", "127.0.0.1")
        .Describe("Address of the API; any other than this machine's own needs --api-key");
    private readonly Option<int> port = command
        .AddDefault($"--{prefix}port", 8000)
        .Describe("Port of the API; 0 picks a free one");
    private readonly Option<string[]> keys = command
        .AddOption<string[]>("--api-key")
        .Describe("Key that clients must send as 'Authorization: Bearer KEY' (repeatable; or SIMPLE_R1_API_KEY)");
    private readonly Option<bool> accessLog = command
        .AddOption<bool>("--access-log")
        .Describe("Print a line about each request: time, client, path, status, duration, X-Request-Id");
    private readonly Option<string?> certificate = command
        .AddOption<string?>("--tls-cert")
        .Describe("Certificate in PEM, with those between it and a root: serves HTTPS");
    private readonly Option<string?> certificateKey = command
        .AddOption<string?>("--tls-key")
        .Describe("The certificate's private key in PEM; default: in the certificate's file");
    private readonly Option<string?> template = command
        .AddOption<string?>("--template")
        .Describe(
            "Chat format: chatml, r1-zero, r1-zero-one-shot, plain, or a text with {question} (\\n: new line); "
                + "default: the model's own chat template"
        );

    /// <summary>All but the chat template, which needs the model.</summary>
    public HttpOptions Read(ParseResult parse) =>
        new()
        {
            Host = ReadHost(parse),
            Port = parse.GetValue(port),
            ApiKeys = ReadKeys(parse),
            Certificate = ReadCertificate(parse),
            AccessLog = parse.GetValue(accessLog) ? Console.Out.WriteLine : null,
        };

    /// <summary>The given template, or the model's own; null if it has none: no chat.</summary>
    public PromptTemplate? ReadTemplate(ParseResult parse, string folder)
    {
        var options = new PromptOptions { Folder = folder };
        return parse.GetValue(template) is { } chosen
            ? PromptTemplate.Create(chosen.Replace("\\n", "\n", StringComparison.Ordinal), options)
            : PromptTemplate.ForModel(options);
    }

    private IPAddress ReadHost(ParseResult parse)
    {
        string text = parse.GetValue(host)!;
        if (text == "localhost")
            return IPAddress.Loopback;
        if (IPAddress.TryParse(text, out var address))
            return address;
        throw new ArgumentException(
            $"--{prefix}host: expected an IP address of this machine (127.0.0.1, or 0.0.0.0 for all), found '{text}'"
        );
    }

    /// <summary>The given keys, and the environment's, which other users cannot see in the list of processes.</summary>
    private string[] ReadKeys(ParseResult parse)
    {
        string[] given = parse.GetValue(keys) ?? [];
        string? environment = Environment.GetEnvironmentVariable("SIMPLE_R1_API_KEY");
        return string.IsNullOrEmpty(environment) ? given : [.. given, environment];
    }

    private TlsCertificate? ReadCertificate(ParseResult parse)
    {
        string? file = parse.GetValue(certificate);
        string? keyFile = parse.GetValue(certificateKey);
        if (file is null && keyFile is not null)
            throw new ArgumentException("--tls-key: name the certificate with --tls-cert too");
        if (file is null)
            return null;

        var loaded = TlsCertificate.Load(file, keyFile);
        if (loaded.Warning(DateTime.Now) is { } warning)
            Console.Error.WriteLine($"warning: --tls-cert: {warning}");
        return loaded;
    }
}
