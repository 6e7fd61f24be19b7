using System.CommandLine;
using SimpleR1.Bench;
using SimpleR1.Bench.Training;
using SimpleR1.Commands.Options;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;

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
    private readonly Option<bool> parts = command
        .AddOption<bool>("--parts")
        .Describe("Also measure GPU time by part of one step: products, attention, norms, head, optimizer");
    private readonly PeerOptions peers = new(command);
    private readonly Option<string?> json = BenchCommand.AddJson(command);

    public static Command CreateSubcommand()
    {
        var command = new Command(
            "train",
            "Speed of the trainer on a GPU: tokens/s of whole optimizer steps, share of the GPU's rate, memory"
        );
        var options = new BenchTrainCommand(command);
        command.SetHandler(options.RunAsync);
        return command;
    }

    /// <returns>The exit code: 1 if a peer has no figures.</returns>
    private async Task<int> RunAsync(ParseResult parse)
    {
        if (parse.GetValue(samples) < 1)
            throw new ArgumentException($"--samples: expected at least 1, found {parse.GetValue(samples)}");
        peers.Check(parse);

        var gpu = device.Gpu(parse);
        if (gpu is null)
            throw new ArgumentException("--device: training is measured on a GPU; expected cuda or cuda:N, found cpu");

        // What is measured here disposes of its memory before a peer needs it.
        var options = Options(parse, gpu);
        var (own, config) = Measure(parse, options, gpu);
        if (own is null)
            return 0;

        var rate = GpuRate.Measure(gpu, options.Type);
        rate.AddShares(own.Figures);
        Console.WriteLine($"       {rate.Describe(own.Figures["model_tflops_per_second"])}");

        // Written before the peers too: they take minutes, in which a person may lose patience.
        var results = new List<BenchmarkResult> { own };
        BenchCommand.WriteJson(parse.GetValue(json), results);
        bool complete = await peers.MeasureAsync(parse, config, options, results);
        BenchCommand.WriteJson(parse.GetValue(json), results);
        return complete ? 0 : 1;
    }

    private TrainBenchmarkOptions Options(ParseResult parse, CudaDevice gpu) =>
        new()
        {
            Gpu = gpu.Index,
            Type = ElementType.Of(device.ElementType(parse, gpu)),
            Sequences = parse.GetValue(sequences),
            Samples = parse.GetValue(samples),
            Length = parse.GetValue(length),
            Prompt = parse.GetValue(prompt),
            TokensPerMicroBatch = parse.GetValue(microBatch),
            Checkpointing = parse.GetValue(checkpointing),
            Repeats = parse.GetValue(repeats),
        };

    /// <returns>SimpleR1's figures, null with --profile, and the model's shape.</returns>
    private (BenchmarkResult? Own, ModelConfig Config) Measure(
        ParseResult parse,
        TrainBenchmarkOptions options,
        CudaDevice gpu
    )
    {
        string name = parse.GetValue(model)!;
        using var weights = BenchCommand.LoadWeights(parse, device, name, gpu);
        using var benchmark = new TrainBenchmark(weights, name, options, Console.WriteLine);
        var config = weights.Layout.Config;
        if (parse.GetValue(profile))
        {
            BenchCommand.PrintProfile(benchmark.Profile());
            return (null, config);
        }

        var own = benchmark.Run();
        if (parse.GetValue(parts))
            benchmark.AddParts(own.Figures);
        return (own, config);
    }
}
