using System.CommandLine;
using SimpleR1.Commands.Options;
using SimpleR1.Models;
using SimpleR1.Models.Tokenization;
using SimpleR1.Screen;
using SimpleR1.Server;
using SimpleR1.Server.Sources;
using SimpleR1.Vllm;
using SimpleR1.WeightSync.Nccl;

namespace SimpleR1.Commands.Models;

internal static class ServeCommand
{
    public static Command Create()
    {
        var command = new Command("serve", "Serve a model over HTTP, with OpenAI's API (docs/http.md)");
        var options = new ServeOptions(command);
        command.SetHandler(parse => RunAsync(options, parse));
        return command;
    }

    private static async Task<int> RunAsync(ServeOptions options, ParseResult parse)
    {
        // All options are checked before minutes of loading.
        var http = options.Http(parse);
        http.Check();
        var tokenizer = Tokenizer.Load(options.Folder(parse));
        if (ModelConfigFile.Load(options.Folder(parse)).EndWarning is { } warning)
            Console.Error.WriteLine(warning);
        http = http with { ChatTemplate = options.ChatTemplate(parse) };
        var gpu = options.Gpu(parse);
        options.Check(parse, gpu);

        using var interrupts = new Interrupts(
            $"stopping; requests in flight have {http.DrainTimeout.TotalSeconds:0} s"
        );
        string name = options.ModelName(parse);
        var engine = options.Engine(parse, gpu);

        // Workers, or one engine in this process.
        if (options.Head(parse) is not null || options.Workers(parse) > 0)
        {
            await using var source = await ClusterCompletions.StartAsync(
                name,
                options.Folder(parse),
                engine,
                new()
                {
                    Join = options.Head(parse),
                    Name = $"serve {name}",
                    Workers = Math.Max(1, options.Workers(parse)),
                    Worker = new() { Threads = options.Threads(parse) },
                },
                interrupts.Token
            );
            await ServeAsync(source, http, interrupts);
        }
        else
        {
            int threads = options.Threads(parse) > 0 ? options.Threads(parse) : Environment.ProcessorCount;
            var weights = options.LoadWeights(parse, gpu);
            await using var source = new LocalCompletions(name, weights, tokenizer, engine, threads);
            if (await source.DescribeAsync() is { } description)
                Console.WriteLine(description);
            if (http.WeightUpdates && gpu is not null)
                WarnAboutTransport(http);
            await ServeAsync(source, http, interrupts);
        }
        return 0;
    }

    private static void WarnAboutTransport(HttpOptions options)
    {
        if (NcclSupport.Missing is { } missing)
            Console.Error.WriteLine(
                "warning: --weight-updates: weights can be taken by TCP only, from trainers of this program: " + missing
            );
        else if (options.ClusterKey is not null)
            Console.Error.WriteLine(
                "warning: --key: senders are authenticated and messages about weights are encrypted, "
                    + "but NCCL moves the weights between the GPUs in the clear"
            );
    }

    /// <summary>Serves until Ctrl-C or SIGTERM.</summary>
    internal static async Task ServeAsync(ICompletionSource source, HttpOptions options, Interrupts interrupts)
    {
        var extension = options.WeightUpdates ? VllmWeightUpdates.For(source, options) : null;
        await using var server = await HttpServer.StartAsync(source, options, extension, interrupts.Token);

        if (server.AdminAddress is { } admin)
            Console.WriteLine(
                $"weights are taken at {admin.ToString().TrimEnd('/')} from trainers with the cluster key"
            );
        string clients = options.ApiKeys.Count > 0 ? "with keys" : "for this machine only";
        string chat = options.ChatTemplate is null ? "off" : "on";
        Console.WriteLine(
            $"serving {source.Model} on {server.Address} ({clients}, context {source.Context}, chat {chat}); "
                + "Ctrl-C stops it"
        );
        await interrupts.WaitAsync();
    }
}
