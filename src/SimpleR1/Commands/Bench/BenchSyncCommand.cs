using System.CommandLine;
using SimpleR1.Bench;
using SimpleR1.Bench.Sync;
using SimpleR1.Commands.Options;
using SimpleR1.WeightSync;

namespace SimpleR1.Commands.Bench;

/// <summary><c>simple-r1 bench sync</c>.</summary>
internal sealed class BenchSyncCommand(Command command)
{
    private readonly Argument<string> model = command
        .AddArgument("model")
        .Describe($"A shape with random weights: {string.Join(", ", NamedShapes.Names)}");

    // The workers.
    private readonly Option<int> workers = command.AddDefault("--workers", 1).Describe("Worker processes");
    private readonly Option<string> device = command
        .AddDefault("--device", "cpu")
        .Describe("The workers' devices: cpu, cuda, cuda:N, several with commas, or all (one GPU after another)");
    private readonly Option<string> type = DeviceOptions.AddType(command);

    // The trainer's weights, and how they travel.
    private readonly Option<string?> sendDevice = command
        .AddOption<string?>("--send-device")
        .Describe("The trainer's GPU for NCCL, not one of the workers'; several, with commas, send a slice each");
    private readonly Option<string> source = command
        .AddDefault("--source", "cpu")
        .Describe("Where the trainer's weights are: cpu (f32), or gpu (first --send-device, the workers' type)");
    private readonly Option<WeightTransportChoice> transport = command
        .AddDefault("--transport", WeightTransportChoice.Auto)
        .Describe("How weights travel");
    private readonly Option<bool> overlap = command
        .AddOption<bool>("--overlap")
        .Describe("Receive into a second buffer, and swap between two steps");
    private readonly Option<bool> delta = command
        .AddOption<bool>("--delta")
        .Describe("Over TCP, send only what has changed");

    // The measurement.
    private readonly Option<double> changed = command
        .AddDefault("--changed", 1.0)
        .Describe("Fraction of the elements that differ from update to update");
    private readonly Option<int> rounds = command
        .AddDefault("--rounds", 5)
        .Describe("Measured updates, after two that warm up");
    private readonly Option<string?> json = BenchCommand.AddJson(command);

    public static Command CreateSubcommand()
    {
        var command = new Command(
            "sync",
            "Time of a weight update by phase, next to a bare broadcast and to sending parameter by parameter"
        );
        var options = new BenchSyncCommand(command);
        options.model.DefaultValueFactory = _ => "smollm2-135m";
        options.source.AcceptOnlyFromAmong("cpu", "gpu");
        command.SetHandler(options.RunAsync);
        return command;
    }

    private async Task<int> RunAsync(ParseResult parse)
    {
        var options = new SyncBenchmarkOptions
        {
            Model = parse.GetValue(model)!,
            Rounds = parse.GetValue(rounds),
            Changed = parse.GetValue(changed),
            SourceOnGpu = parse.GetValue(source) == "gpu",
            Cluster = new()
            {
                Workers = parse.GetValue(workers),
                Worker = new()
                {
                    Device = parse.GetValue(device)!,
                    Type = DeviceOptions.ParseType(parse.GetValue(type)!).Name,
                },
                SendDevice = parse.GetValue(sendDevice),
                Transport = parse.GetValue(transport),
                Overlap = parse.GetValue(overlap),
                Delta = parse.GetValue(delta),
            },
        };
        var result = await new SyncBenchmark(options, Console.WriteLine).RunAsync();
        BenchCommand.WriteJson(parse.GetValue(json), [result]);
        return 0;
    }
}
