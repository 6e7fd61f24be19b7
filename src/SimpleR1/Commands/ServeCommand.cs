using System.CommandLine;
using System.Net;
using SimpleR1.Inference;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Tokenization;
using SimpleR1.Server;
using SimpleR1.Server.Sources;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Vllm;
using SimpleR1.WeightSync.Nccl;

namespace SimpleR1.Commands;

internal static class ServeCommand
{
    private static readonly HttpLimits Defaults = new();

    private static readonly Argument<string> Model = new("model") { Description = "A model folder or a checkpoint" };
    private static readonly Option<string> Host = new("--host")
    {
        Description = "Address to listen on; another than this machine's own needs --api-key",
        DefaultValueFactory = _ => "127.0.0.1",
    };
    private static readonly Option<int> Port = Whole("--port", "Port to listen on; 0 is any free one", 8000);
    private static readonly Option<string[]> Keys = new("--api-key")
    {
        Description =
            "A key that clients must send as 'Authorization: Bearer KEY' (repeatable; SIMPLE_R1_API_KEY is one more, which other users can't see in the list of processes)",
    };
    private static readonly Option<string?> Name = new("--name")
    {
        Description = "The model's name for clients; its folder's by default",
    };
    private static readonly Option<string?> Template = new("--template")
    {
        Description =
            "How chat messages become a prompt: chatml (the default where the tokenizer knows it), r1-zero, r1-zero-one-shot, plain, or a text with {question}; \\n is a new line",
    };
    private static readonly Option<int> Threads = Whole("--threads", "Threads of the engine; 0 is one a core", 0);
    private static readonly Option<int> KvCache = Whole(
        "--kv-cache-mib",
        "Memory for keys and values; 0 is 1,024 on a CPU, and on a GPU what --gpu-memory-utilization leaves",
        0
    );
    private static readonly Option<int> Sequences = Whole(
        "--max-sequences",
        "Sequences that run at once; 0 is 64 on a CPU, 1,024 on a GPU",
        0
    );
    private static readonly Option<int> BatchedTokens = Whole(
        "--max-batched-tokens",
        "Tokens of one step; 0 is 2,048 on a CPU, 16,384 on a GPU",
        0
    );
    private static readonly Option<int> Context = Whole(
        "--max-context",
        "Longest prompt and completion together; 0 is the model's own",
        0
    );
    private static readonly Option<int> PromptTokens = Whole(
        "--max-prompt-tokens",
        "Longest prompt; 0 is what the context leaves",
        Defaults.PromptTokens
    );
    private static readonly Option<int> N = Whole("--max-n", "Completions of one prompt", Defaults.N);
    private static readonly Option<int> Queue = Whole(
        "--max-queue",
        "Sequences that wait besides those that run; more are refused (429)",
        Defaults.Queue
    );
    private static readonly Option<int> Connections = Whole(
        "--max-connections",
        "Open connections; more are refused (429)",
        Defaults.Connections
    );
    private static readonly Option<int> Body = Whole(
        "--max-body-kib",
        "Size of a request's body (413)",
        Defaults.BodyKib
    );
    private static readonly Option<int> Bodies = Whole(
        "--max-bodies-mib",
        "Memory for all bodies that are being received (429)",
        Defaults.BodiesMib
    );
    private static readonly Option<int> Header = Whole(
        "--max-header-kib",
        "Size of a request's headers (431)",
        Defaults.HeaderKib
    );
    private static readonly Option<int> Depth = Whole(
        "--max-json-depth",
        "Nesting of a request's JSON (400)",
        Defaults.JsonDepth
    );
    private static readonly Option<int> HeaderTime = Whole(
        "--header-timeout",
        "Seconds for a request's headers to arrive (408)",
        Defaults.HeaderSeconds
    );
    private static readonly Option<int> Idle = Whole(
        "--idle-timeout",
        "Seconds that a connection may be open without a request",
        Defaults.IdleSeconds
    );
    private static readonly Option<int> Rate = Whole(
        "--min-bytes-per-second",
        "A client that sends a body (408) or takes an answer more slowly is cut off",
        Defaults.BytesPerSecond
    );
    private static readonly Option<int> Workers = Whole(
        "--workers",
        "Serve with this many worker processes, each with an engine; 0 is one engine in this process",
        0
    );
    private static readonly Option<string?> Join = new("--join")
    {
        Description = "HOST:PORT of a head whose workers are to serve the model",
    };
    private static readonly Option<bool> WeightUpdates = new("--weight-updates")
    {
        Description =
            "Let a trainer send weights, by vLLM's protocol (docs/vllm.md), to a GPU by NCCL; with --key on the admin port only, and only from those who have the key: encrypted, but for the bytes that NCCL moves between GPUs",
    };
    private static readonly Option<string?> Key = ClusterOption.Key();
    private static readonly Option<int> AdminPort = Whole(
        "--admin-port",
        "With --weight-updates and --key: the port where weights are taken, from trainers with that key; 0 is any free one",
        0
    );
    private static readonly Option<string?> TlsCertificate = new("--tls-cert")
    {
        Description = "A certificate in PEM, with those between it and a root: the server then speaks HTTPS",
    };
    private static readonly Option<string?> TlsKey = new("--tls-key")
    {
        Description = "Its private key in PEM; by default in the certificate's file",
    };
    private static readonly Option<double> Drain = new("--drain-timeout")
    {
        Description = "Seconds that requests may go on after Ctrl-C or SIGTERM",
        DefaultValueFactory = _ => 30,
    };

    private static readonly Option<string> Device = DeviceOptions.Device(),
        Type = DeviceOptions.Type();
    private static readonly Option<double> Utilization = DeviceOptions.Utilization();
    private static readonly Option<bool> NoGraphs = DeviceOptions.NoGraphs();

    private static Option<int> Whole(string name, string description, int value) =>
        new(name) { Description = description, DefaultValueFactory = _ => value };

    public static Command Create()
    {
        var command = new Command("serve", "Serve a model over HTTP, with OpenAI's API (docs/http.md)")
        {
            Model,
            Device,
            Type,
            Utilization,
            NoGraphs,
            Workers,
            Join,
            Host,
            Port,
            Keys,
            Name,
            Template,
            Threads,
            KvCache,
            Sequences,
            BatchedTokens,
            Context,
            PromptTokens,
            N,
            Queue,
            Connections,
            Body,
            Bodies,
            Header,
            Depth,
            HeaderTime,
            Idle,
            Rate,
            Drain,
            WeightUpdates,
            Key,
            AdminPort,
            TlsCertificate,
            TlsKey,
        };
        command.SetAction((parse, _) => CommandErrors.RunAsync(() => RunAsync(parse)));
        return command;
    }

    private static async Task<int> RunAsync(ParseResult parse)
    {
        string folder = parse.GetValue(Model)!;
        var options = Options(parse);
        options.Check(); // before minutes of loading
        var tokenizer = Tokenizer.Load(folder);
        options = options with { ChatTemplate = ChatTemplate(parse.GetValue(Template), tokenizer) };
        if (parse.GetResult(Key) is { Implicit: false } && parse.GetValue(Join) is null && !options.WeightUpdates)
            throw new ArgumentException(
                "--key: it is for --join and for --weight-updates, and neither is given; who may use the API is said by --api-key"
            );
        int threads = parse.GetValue(Threads) is > 0 and var given ? given : Environment.ProcessorCount;
        using var interrupts = new Interrupts(
            $"stopping; requests in flight have {options.DrainTimeout.TotalSeconds:0} s"
        );
        string name = ModelName(parse.GetValue(Name), folder);
        var gpu = CudaDevice.Parse(parse.GetValue(Device)!);
        var engine = EngineOptionsOf(parse, gpu);
        if (parse.GetValue(Join) is not null || parse.GetValue(Workers) > 0)
        {
            if (options.WeightUpdates)
                throw new ArgumentException(
                    "--weight-updates: weights can be sent to a server with its own engine only; leave out --workers and --join"
                );
            if (gpu is not null)
                throw new ArgumentException("--device: workers have their own; leave it out with --workers and --join");
            await using var source = await ClusterCompletions.StartAsync(
                name,
                folder,
                engine,
                new()
                {
                    Join = parse.GetValue(Join) is null ? null : ClusterOption.Head(parse, Join, Key),
                    Name = $"serve {name}",
                    Workers = Math.Max(1, parse.GetValue(Workers)),
                    ThreadsPerWorker = parse.GetValue(Threads),
                },
                interrupts.Token
            );
            await ServeAsync(source, options, interrupts);
        }
        else
        {
            var weights = gpu is null
                ? Checkpoint.Load(folder)
                : Checkpoint.Load(folder, DeviceOptions.ParseType(parse.GetValue(Type)!, gpu), gpu);
            await using var source = new LocalCompletions(name, weights, tokenizer, engine, threads);
            if (await source.DescribeAsync() is { } description)
                Console.WriteLine(description);
            if (options.WeightUpdates && gpu is not null)
                SayWaysToGpu(options);
            await ServeAsync(source, options, interrupts);
        }
        return 0;
    }

    private static void SayWaysToGpu(HttpOptions options)
    {
        if (NcclSupport.Missing is { } missing)
            Console.Error.WriteLine(
                $"warning: --weight-updates: weights can be taken by TCP only, from trainers of this program: {missing}"
            );
        else if (options.ClusterKey is not null)
            Console.Error.WriteLine(
                "warning: --key: who may send weights is proven and what is said about them is encrypted, but NCCL moves their bytes between the GPUs in the clear"
            );
    }

    /// <summary>Until Ctrl-C or SIGTERM.</summary>
    internal static async Task ServeAsync(ICompletionSource source, HttpOptions options, Interrupts interrupts)
    {
        await using var server = await HttpServer.StartAsync(
            source,
            options,
            options.WeightUpdates ? VllmWeightUpdates.For(source, options) : null,
            interrupts.Token
        );
        if (server.AdminAddress is { } admin)
            Console.WriteLine(
                $"weights are taken at {admin.ToString().TrimEnd('/')} from trainers with the cluster key"
            );
        Console.WriteLine(
            $"serving {source.Model} on {server.Address} ({(options.ApiKeys.Count > 0 ? "with keys" : "for this machine only")}, context {source.Context}, chat {(options.ChatTemplate is null ? "off" : "on")}); Ctrl-C stops it"
        );
        await Task.Delay(Timeout.Infinite, interrupts.Token)
            .ContinueWith(_ => { }, CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
    }

    /// <summary>Chat by the template that was asked for, or by ChatML where the tokenizer knows it; null without.</summary>
    internal static string? ChatTemplate(string? asked, Tokenizer tokenizer)
    {
        string? template =
            asked?.Replace("\\n", "\n", StringComparison.Ordinal)
            ?? (tokenizer.TokenId("<|im_start|>") is null ? null : "chatml");
        if (template is not null)
            _ = PromptTemplate.Create(template);
        return template;
    }

    internal static IPAddress ParseHost(string host, string option) =>
        host == "localhost" ? IPAddress.Loopback
        : IPAddress.TryParse(host, out var address) ? address
        : throw new ArgumentException(
            $"{option}: expected an IP address of this machine (127.0.0.1, or 0.0.0.0 for all), found '{host}'"
        );

    /// <summary>Those given, and the environment's.</summary>
    internal static string[] AllKeys(string[]? given) =>
        [
            .. given ?? [],
            .. Environment.GetEnvironmentVariable("SIMPLE_R1_API_KEY") is { Length: > 0 } key ? new[] { key } : [],
        ];

    internal static string ModelName(string? given, string folder) =>
        given ?? Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder)));

    private static EngineOptions EngineOptionsOf(ParseResult parse, CudaDevice? gpu)
    {
        var sizes = DeviceOptions.Engine(gpu, parse.GetValue(Utilization), parse.GetValue(NoGraphs));
        int Given(Option<int> option, int otherwise) =>
            parse.GetValue(option) is not 0 and var given ? given : otherwise;
        return sizes with
        {
            KvCacheBytes = (long)parse.GetValue(KvCache) << 20,
            MaxSequences = Given(Sequences, sizes.MaxSequences),
            MaxBatchedTokens = Given(BatchedTokens, sizes.MaxBatchedTokens),
            MaxContext = parse.GetValue(Context),
        };
    }

    internal static TlsCertificate? Certificate(string? file, string? keyFile)
    {
        if (file is null)
            return keyFile is null
                ? null
                : throw new ArgumentException("--tls-key: name the certificate with --tls-cert too");
        var certificate = Server.TlsCertificate.Load(file, keyFile);
        if (certificate.Warning(DateTime.Now) is { } warning)
            Console.Error.WriteLine($"warning: --tls-cert: {warning}");
        return certificate;
    }

    private static HttpOptions Options(ParseResult parse) =>
        new()
        {
            Host = ParseHost(parse.GetValue(Host)!, "--host"),
            Port = parse.GetValue(Port),
            ApiKeys = AllKeys(parse.GetValue(Keys)),
            WeightUpdates = parse.GetValue(WeightUpdates),
            AdminPort = parse.GetValue(AdminPort),
            DrainTimeout = TimeSpan.FromSeconds(parse.GetValue(Drain)),
            Certificate = Certificate(parse.GetValue(TlsCertificate), parse.GetValue(TlsKey)),
            ClusterKey = parse.GetValue(WeightUpdates) ? ClusterOption.Read(parse.GetValue(Key)) : null, // the environment may hold one for other commands
            Limits = new()
            {
                BodyKib = parse.GetValue(Body),
                BodiesMib = parse.GetValue(Bodies),
                HeaderKib = parse.GetValue(Header),
                JsonDepth = parse.GetValue(Depth),
                PromptTokens = parse.GetValue(PromptTokens),
                N = parse.GetValue(N),
                Queue = parse.GetValue(Queue),
                Connections = parse.GetValue(Connections),
                HeaderSeconds = parse.GetValue(HeaderTime),
                IdleSeconds = parse.GetValue(Idle),
                BytesPerSecond = parse.GetValue(Rate),
            },
        };
}
