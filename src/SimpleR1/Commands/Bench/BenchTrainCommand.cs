using System.CommandLine;
using SimpleR1.Bench.Training;
using SimpleR1.Commands.Options;

namespace SimpleR1.Commands.Bench;

/// <summary><c>simple-r1 bench train</c>.</summary>
internal sealed class BenchTrainCommand(Command command)
{
    private readonly Argument<string> model = BenchCommand.AddModel(command);
    private readonly DeviceOptions device = new(command, "cuda");
    private readonly Option<int> sequences = command.AddDefault("--sequences", 64).Describe("Sequences of a step");
    private readonly Option<int> samples = command
        .AddDefault("--samples", 1)
        .Describe("Sequences of a group: they have one prompt, which is computed once");
    private readonly Option<int> length = command
        .AddDefault("--length", 512)
        .Describe("Tokens of each sequence, its prompt included");
    private readonly Option<int> prompt = command
        .AddDefault("--prompt", 128)
        .Describe("Tokens at the beginning of each sequence that are not trained");
    private readonly Option<int> microBatch = command
        .AddDefault("--tokens-per-micro-batch", 32768)
        .Describe("Tokens computed at once");
    private readonly Option<bool> checkpointing = command
        .AddOption<bool>("--checkpointing")
        .Describe("Compute layers again in the backward pass instead of keeping their activations");
    private readonly Option<int> repeats = command
        .AddDefault("--repeats", 5)
        .Describe("Measured steps, after two that warm up");
    private readonly Option<bool> profile = command
        .AddOption<bool>("--profile")
        .Describe("Print GPU time by kernel of one step instead");
    private readonly Option<string?> json = BenchCommand.AddJson(command);

    public static Command CreateSubcommand()
    {
        var command = new Command(
            "train",
            "Speed of the trainer on a GPU: tokens/s of whole optimizer steps, share of the GPU's rate, memory"
        );
        var options = new BenchTrainCommand(command);
        command.SetHandler(options.Run);
        return command;
    }

    private void Run(ParseResult parse)
    {
        if (parse.GetValue(samples) < 1)
            throw new ArgumentException($"--samples: expected at least 1, found {parse.GetValue(samples)}");

        string name = parse.GetValue(model)!;
        using var weights = BenchCommand.LoadWeights(parse, device, name, device.Gpu(parse));
        var options = new TrainBenchmarkOptions
        {
            Sequences = parse.GetValue(sequences),
            Samples = parse.GetValue(samples),
            Length = parse.GetValue(length),
            Prompt = parse.GetValue(prompt),
            TokensPerMicroBatch = parse.GetValue(microBatch),
            Checkpointing = parse.GetValue(checkpointing),
            Repeats = parse.GetValue(repeats),
        };
        using var benchmark = new TrainBenchmark(weights, name, options, Console.WriteLine);
        if (parse.GetValue(profile))
            BenchCommand.PrintProfile(benchmark.Profile());
        else
            BenchCommand.WriteJson(parse.GetValue(json), [benchmark.Run()]);
    }
}
