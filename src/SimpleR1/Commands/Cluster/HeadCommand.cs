using System.CommandLine;
using System.Net;
using SimpleR1.Cluster.Head;
using SimpleR1.Commands.Models;
using SimpleR1.Commands.Options;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Screen;
using SimpleR1.Server.Sources;

namespace SimpleR1.Commands.Cluster;

internal static class HeadCommand
{
    public static Command Create()
    {
        var command = new Command("head", "Be the meeting place of a cluster: workers and trainers join it");
        var options = new ClusterHeadOptions(command);
        var serve = command
            .AddOption<string?>("--serve")
            .Describe("Model folder: the head serves this model over HTTP, by the workers that join (docs/http.md)");
        var api = new ApiOptions(command, "http-");
        command.SetHandler(async parse =>
        {
            using var interrupts = new Interrupts("the head leaves; workers wait for the next one");
            if (parse.GetValue(serve) is { } folder)
                await ServeAsync(options.Read(parse), folder, api, parse, interrupts);
            else
                await RunAsync(options.Read(parse), interrupts);
            return 0;
        });
        return command;
    }

    private static async Task RunAsync(HeadOptions options, Interrupts interrupts)
    {
        await using var head = await ClusterHead.StartAsync(options, interrupts.Token);
        PrintReady(head.Join, options);
        await interrupts.WaitAsync();
    }

    private static async Task ServeAsync(
        HeadOptions options,
        string folder,
        ApiOptions api,
        ParseResult parse,
        Interrupts interrupts
    )
    {
        // All options are checked before minutes of loading.
        var http = api.Read(parse);
        http.Check();
        http = http with { ChatTemplate = api.ReadTemplate(parse, folder) };
        if (ModelConfigFile.Load(folder).EndWarning is { } warning)
            Console.Error.WriteLine(warning);

        string model = ServeOptions.FolderName(folder);
        await using var source = await ClusterCompletions.StartAsync(
            model,
            folder,
            new() { OnGpu = EngineOptions.ForGpu },
            new()
            {
                Head = options,
                Workers = 0,
                Name = $"serve {model}",
                Log = options.Log,
            },
            interrupts.Token
        );
        PrintReady(source.Join, options);
        await ServeCommand.ServeAsync(source, http, interrupts);
    }

    private static void PrintReady(string join, HeadOptions options)
    {
        string key = options.Key is null ? "   (no key: this machine only)" : "   and the same key";
        Console.WriteLine($"head ready; join with: simple-r1 worker --join {join}{key}");
    }

    private sealed class ClusterHeadOptions(Command command)
    {
        private const int DefaultPort = 7400;

        private readonly Option<int> port = command
            .AddDefault("--port", DefaultPort)
            .Describe("Port that others join; the head's silo takes the next one");
        private readonly Option<string?> address = command
            .AddOption<string?>("--address")
            .Describe("This machine's address; default: 127.0.0.1, or with a key the default route's");
        private readonly KeyOption key = new(command);
        private readonly Option<string?> membership = command
            .AddOption<string?>("--membership")
            .Describe("redis://[:PASSWORD@]HOST[:PORT]: membership that survives the head; default: in the head");
        private readonly Option<string> cluster = command
            .AddDefault("--cluster", "default")
            .Describe("Name that tells apart the clusters of one Redis");

        public HeadOptions Read(ParseResult parse) =>
            new()
            {
                Port = parse.GetValue(port),
                Address = ReadAddress(parse),
                Key = key.Read(parse),
                Membership = parse.GetValue(membership),
                Name = parse.GetValue(cluster)!,
                Log = line => Console.WriteLine($"{DateTime.Now:HH:mm:ss} {line}"),
            };

        private IPAddress? ReadAddress(ParseResult parse)
        {
            if (parse.GetValue(address) is not { } text)
                return null;
            return IPAddress.TryParse(text, out var parsed)
                ? parsed
                : throw new ArgumentException($"--address: expected an IP address, found '{text}'");
        }
    }
}
