using System.CommandLine;
using SimpleR1.Cluster;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Prompts;
using SimpleR1.Server;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Commands.Options;

/// <summary>All options of <c>simple-r1 serve</c>.</summary>
internal sealed class ServeOptions(Command command)
{
    // The model and its engine.
    private readonly Argument<string> model = command.AddArgument("model").Describe("A model folder or a checkpoint");
    private readonly Option<string?> name = command
        .AddOption<string?>("--name")
        .Describe("The model's name for clients; default: its folder's name");
    private readonly DeviceOptions device = new(command);
    private readonly Option<int> threads = command
        .AddDefault("--threads", 0)
        .Describe("Threads of the engine; 0 is one a core");
    private readonly EngineSizeOptions sizes = new(command);

    // Engines in other processes.
    private readonly Option<int> workers = command
        .AddDefault("--workers", 0)
        .Describe("Worker processes, each with an engine; 0 is one engine in this process");
    private readonly JoinOptions join = new(command, required: false);

    // The API and its limits.
    private readonly ApiOptions api = new(command);
    private readonly LimitOptions limits = new(command);
    private readonly Option<double> drainTimeout = command
        .AddDefault("--drain-timeout", 30.0)
        .Describe("Seconds that requests may continue after Ctrl-C or SIGTERM");

    // Weights from a trainer.
    private readonly Option<bool> weightUpdates = command
        .AddOption<bool>("--weight-updates")
        .Describe("Let a trainer send weights (docs/vllm.md); with --key, only on the admin port");
    private readonly Option<int> adminPort = command
        .AddDefault("--admin-port", 0)
        .Describe("Port for weights from trainers that have the --key; 0 picks a free one");

    public string Folder(ParseResult parse) => parse.GetValue(model)!;

    public string ModelName(ParseResult parse) => parse.GetValue(name) ?? FolderName(Folder(parse));

    /// <summary>The name of a model for clients.</summary>
    public static string FolderName(string folder) =>
        Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder)));

    /// <summary>Threads of the engine; 0 if they were not given.</summary>
    public int Threads(ParseResult parse) => parse.GetValue(threads);

    public CudaDevice? Gpu(ParseResult parse) => device.Gpu(parse);

    public FlatWeights LoadWeights(ParseResult parse, CudaDevice? gpu) =>
        device.LoadWeights(parse, Folder(parse), gpu, takesUpdates: parse.GetValue(weightUpdates));

    /// <summary>The options of the engine here, or of the workers' engines, on whatever devices they compute.</summary>
    public EngineOptions Engine(ParseResult parse, CudaDevice? gpu) =>
        sizes.Apply(parse, device.Engine(parse, gpu)) with
        {
            OnGpu = sizes.Apply(parse, device.GpuEngine(parse)),
        };

    /// <summary>Worker processes to start, if there is no head to join.</summary>
    public int Workers(ParseResult parse) => parse.GetValue(workers);

    public HeadAddress? Head(ParseResult parse) => join.HeadOrNull(parse);

    /// <summary>All but the chat template.</summary>
    public HttpOptions Http(ParseResult parse)
    {
        bool takesWeights = parse.GetValue(weightUpdates);
        return api.Read(parse) with
        {
            Limits = limits.Read(parse),
            DrainTimeout = TimeSpan.FromSeconds(parse.GetValue(drainTimeout)),
            WeightUpdates = takesWeights,
            AdminPort = parse.GetValue(adminPort),
            // The environment may hold a key for other commands.
            ClusterKey = takesWeights ? join.Key.Read(parse) : null,
        };
    }

    public PromptTemplate? ChatTemplate(ParseResult parse) => api.ReadTemplate(parse, Folder(parse));

    /// <exception cref="ArgumentException">Options that exclude each other were given.</exception>
    public void Check(ParseResult parse, CudaDevice? gpu)
    {
        bool hasHead = Head(parse) is not null;
        bool takesWeights = parse.GetValue(weightUpdates);
        if (join.Key.IsGiven(parse) && !hasHead && !takesWeights)
            throw new ArgumentException(
                "--key has no effect without --join or --weight-updates; use --api-key to protect the API"
            );

        bool hasWorkers = hasHead || Workers(parse) > 0;
        if (hasWorkers && takesWeights)
            throw new ArgumentException(
                "--weight-updates: only a server with its own engine takes weights; leave out --workers and --join"
            );
        if (hasWorkers && gpu is not null)
            throw new ArgumentException("--device: workers have their own; leave it out with --workers and --join");
    }
}
