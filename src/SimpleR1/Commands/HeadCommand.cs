using System.CommandLine;
using System.Net;
using SimpleR1.Cluster.Head;
using SimpleR1.Models.Tokenization;
using SimpleR1.Server;
using SimpleR1.Server.Sources;

namespace SimpleR1.Commands;

internal static class HeadCommand
{
    private const int DefaultPort = 7400;

    public static Command Create()
    {
        var port = new Option<int>("--port")
        {
            Description = "The port that others join; its silo takes the next one",
            DefaultValueFactory = _ => DefaultPort,
        };
        var address = new Option<string?>("--address")
        {
            Description =
                "This machine's address for the cluster (default: 127.0.0.1; with a key, the address of the default route)",
        };
        var key = ClusterOption.Key();
        var membership = new Option<string?>("--membership")
        {
            Description =
                "redis://[:PASSWORD@]HOST[:PORT] keeps the membership in Redis, so that it survives the head; by default it is in the head",
        };
        var name = new Option<string>("--cluster")
        {
            Description = "Tells clusters apart that share a Redis",
            DefaultValueFactory = _ => "default",
        };
        var serve = new Option<string?>("--serve")
        {
            Description =
                "A model folder: workers that join get this model, and the head answers OpenAI's API with them (docs/http.md)",
        };
        var httpHost = new Option<string>("--http-host")
        {
            Description = "Address of the API; another than this machine's own needs --api-key",
            DefaultValueFactory = _ => "127.0.0.1",
        };
        var httpPort = new Option<int>("--http-port")
        {
            Description = "Port of the API; 0 is any free one",
            DefaultValueFactory = _ => 8000,
        };
        var apiKeys = new Option<string[]>("--api-key")
        {
            Description =
                "A key that clients of the API must send as 'Authorization: Bearer KEY' (repeatable; or SIMPLE_R1_API_KEY)",
        };
        var certificate = new Option<string?>("--tls-cert")
        {
            Description = "A certificate in PEM: the API then is HTTPS",
        };
        var certificateKey = new Option<string?>("--tls-key")
        {
            Description = "Its private key in PEM; by default in the certificate's file",
        };
        var template = new Option<string?>("--template")
        {
            Description = "How chat messages become a prompt; as with serve",
        };
        var command = new Command("head", "Be the meeting place of a cluster: workers and trainers join it")
        {
            port,
            address,
            key,
            membership,
            name,
            serve,
            httpHost,
            httpPort,
            apiKeys,
            certificate,
            certificateKey,
            template,
        };
        command.SetAction(
            (parse, _) =>
                CommandErrors.RunAsync(async () =>
                {
                    using var interrupts = new Interrupts("the head leaves; workers wait for the next one");
                    var options = new HeadOptions
                    {
                        Port = parse.GetValue(port),
                        Key = ClusterOption.Read(parse.GetValue(key)),
                        Membership = parse.GetValue(membership),
                        Name = parse.GetValue(name)!,
                        Address = parse.GetValue(address) is { } text
                            ? IPAddress.TryParse(text, out var ip)
                                ? ip
                                : throw new ArgumentException($"--address: expected an IP address, found '{text}'")
                            : null,
                        Say = line => Console.WriteLine($"{DateTime.Now:HH:mm:ss} {line}"),
                    };
                    void Ready(string join) =>
                        Console.WriteLine(
                            $"head ready; join with: simple-r1 worker --join {join}{(options.Key is null ? "   (no key: this machine only)" : "   and the same key")}"
                        );
                    if (parse.GetValue(serve) is { } folder)
                    {
                        var http = new HttpOptions
                        {
                            Certificate = ServeCommand.Certificate(
                                parse.GetValue(certificate),
                                parse.GetValue(certificateKey)
                            ),
                            Host = ServeCommand.ParseHost(parse.GetValue(httpHost)!, "--http-host"),
                            Port = parse.GetValue(httpPort),
                            ApiKeys = ServeCommand.AllKeys(parse.GetValue(apiKeys)),
                        };
                        http.Check(); // before minutes of loading
                        http = http with
                        {
                            ChatTemplate = ServeCommand.ChatTemplate(parse.GetValue(template), Tokenizer.Load(folder)),
                        };
                        string model = ServeCommand.ModelName(null, folder);
                        await using var source = await ClusterCompletions.StartAsync(
                            model,
                            folder,
                            new(),
                            new()
                            {
                                Head = options,
                                Workers = 0,
                                Name = $"serve {model}",
                                Log = options.Say,
                            },
                            interrupts.Token
                        );
                        Ready(source.Join);
                        await ServeCommand.ServeAsync(source, http, interrupts);
                        return 0;
                    }
                    await using var head = await ClusterHead.StartAsync(options, interrupts.Token);
                    Ready(head.Join);
                    try
                    {
                        await Task.Delay(Timeout.Infinite, interrupts.Token);
                    }
                    catch (OperationCanceledException) { }
                    return 0;
                })
        );
        return command;
    }
}
