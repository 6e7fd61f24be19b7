using System.CommandLine;
using SimpleR1.Bench;
using SimpleR1.Commands.Options;

namespace SimpleR1.Commands.Bench;

/// <summary><c>simple-r1 bench engine</c>.</summary>
internal sealed class BenchEngineCommand(Command command)
{
    private const string StartCase = "start";

    private readonly Argument<string> model = BenchCommand.AddModel(command);
    private readonly Option<string[]> cases = command
        .AddOption<string[]>("--case")
        .Describe("What to measure (docs/gpu.md); repeatable; default: all but start");
    private readonly DeviceOptions device = new(command, "cuda");
    private readonly Option<int> repeats = command
        .AddDefault("--repeats", 3)
        .Describe("Measured runs, after one that warms up");
    private readonly Option<double> scale = command
        .AddDefault("--scale", 1.0)
        .Describe("Fraction of the cases' numbers of sequences and tokens");
    private readonly Option<bool> profile = command
        .AddOption<bool>("--profile")
        .Describe("Print GPU time by kernel of the (first) case instead; without graphs");
    private readonly Option<string?> json = BenchCommand.AddJson(command);

    public static Command CreateSubcommand()
    {
        var command = new Command(
            "engine",
            "Speed of the inference engine: tokens/s, time a step, time outside the GPU, attention's bandwidth"
        );
        var options = new BenchEngineCommand(command);
        options.cases.AllowMultipleArgumentsPerToken = true;
        options.cases.AcceptOnlyFromAmong([.. EngineBenchmark.Cases, StartCase]);
        command.SetHandler(options.Run);
        return command;
    }

    private void Run(ParseResult parse)
    {
        // Load the model; the start case reports how long that takes.
        string name = parse.GetValue(model)!;
        var times = new StartTimes();
        var gpu = device.Gpu(parse);
        times.DeviceOpened();
        using var weights = BenchCommand.LoadWeights(parse, device, name, gpu);
        times.WeightsLoaded();

        string[] chosen = parse.GetValue(cases) is { Length: > 0 } given ? given : EngineBenchmark.Cases;
        var engineOptions = device.Engine(parse, gpu);
        List<BenchmarkResult> results = [];
        if (chosen.Contains(StartCase))
            results.Add(new StartBenchmark(weights, name, engineOptions, Console.WriteLine).Run(times));

        // The other cases, or a profile of one.
        var options = new EngineBenchmarkOptions
        {
            Cases = [.. chosen.Where(c => c != StartCase)],
            Repeats = parse.GetValue(repeats),
            Scale = parse.GetValue(scale),
            Engine = engineOptions,
        };
        var benchmark = new EngineBenchmark(weights, name, options, Console.WriteLine);
        if (parse.GetValue(profile))
            BenchCommand.PrintProfile(benchmark.Profile(chosen[0]));
        else
            results.AddRange(benchmark.Run());
        BenchCommand.WriteJson(parse.GetValue(json), results);
    }
}
