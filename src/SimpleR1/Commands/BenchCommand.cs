using System.CommandLine;
using System.Diagnostics;
using System.Text.Json;
using SimpleR1.Bench;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync;
using static TorchSharp.torch;

namespace SimpleR1.Commands;

internal static class BenchCommand
{
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    public static Command Create()
    {
        var command = new Command("bench", "Reproducible measurements");
        command.Subcommands.Add(CreateEngine());
        command.Subcommands.Add(CreateSync());
        return command;
    }

    private static Command CreateEngine()
    {
        var model = new Argument<string>("model")
        {
            Description = $"A model folder, or a shape with random weights: {string.Join(", ", NamedShapes.Names)}",
        };
        var cases = new Option<string[]>("--case")
        {
            Description =
                "groups (128 prompts × 8 samples, 128 + 256 tokens), lengths (nano-vllm's benchmark), single (one sequence), attention (the decode kernel alone), products (a layer's matrix products alone), start (a model folder to its first token); repeatable, default: all but start",
            AllowMultipleArgumentsPerToken = true,
        };
        cases.AcceptOnlyFromAmong([.. EngineBenchmark.Cases, "start"]);
        var (device, type) = (DeviceOptions.Device("cuda"), DeviceOptions.Type());
        var (utilization, noGraphs) = (DeviceOptions.Utilization(), DeviceOptions.NoGraphs());
        var repeats = new Option<int>("--repeats")
        {
            Description = "Runs that are measured, after one that warms up",
            DefaultValueFactory = _ => 3,
        };
        var scale = new Option<double>("--scale")
        {
            Description = "Fraction of the cases' numbers of sequences and tokens",
            DefaultValueFactory = _ => 1,
        };
        var profile = new Option<bool>("--profile")
        {
            Description = "Print GPU time by kernel of the (first) case instead; without graphs",
        };
        var json = new Option<string>("--json") { Description = "Write the figures to this file" };
        var command = new Command(
            "engine",
            "Speed of the inference engine: tokens/s, time a step, share of it outside the GPU, attention's share of the memory bandwidth"
        )
        {
            model,
            cases,
            device,
            type,
            utilization,
            noGraphs,
            repeats,
            scale,
            profile,
            json,
        };
        command.SetAction(
            (parse, _) =>
                CommandErrors.RunAsync(() =>
                {
                    string name = parse.GetValue(model)!;
                    string[] chosen = parse.GetValue(cases) is { Length: > 0 } some ? some : EngineBenchmark.Cases;
                    var gpu = CudaDevice.Parse(parse.GetValue(device)!);
                    double opened = SinceStart();
                    var scalarType = DeviceOptions.ParseType(parse.GetValue(type)!, gpu);
                    using var weights = LoadWeights(name, scalarType, gpu);
                    double loaded = SinceStart();
                    var engineOptions = DeviceOptions.Engine(
                        gpu,
                        parse.GetValue(utilization),
                        parse.GetValue(noGraphs)
                    );
                    List<BenchmarkResult> results = [];
                    if (chosen.Contains("start"))
                        results.Add(Start(weights, name, gpu, engineOptions, opened, loaded));
                    var benchmark = new EngineBenchmark(
                        weights,
                        name,
                        new()
                        {
                            Cases = [.. chosen.Where(c => c != "start")],
                            Repeats = parse.GetValue(repeats),
                            Scale = parse.GetValue(scale),
                            Engine = engineOptions,
                        },
                        Console.WriteLine
                    );
                    if (parse.GetValue(profile))
                        PrintProfile(benchmark.Profile(chosen[0]));
                    else
                        results.AddRange(benchmark.Run());
                    if (parse.GetValue(json) is { } path)
                        File.WriteAllText(path, JsonSerializer.Serialize(results, Indented));
                    return Task.FromResult(0);
                })
        );
        return command;
    }

    private static Command CreateSync()
    {
        var model = new Argument<string>("model")
        {
            Description = $"A shape with random weights: {string.Join(", ", NamedShapes.Names)}",
            DefaultValueFactory = _ => "smollm2-135m",
        };
        var workers = new Option<int>("--workers") { Description = "Worker processes", DefaultValueFactory = _ => 1 };
        var device = new Option<string>("--device")
        {
            Description =
                "What the workers compute on: cpu, cuda, cuda:N, several with commas, or all for one GPU after another",
            DefaultValueFactory = _ => "cpu",
        };
        var type = DeviceOptions.Type();
        var sendDevice = new Option<string?>("--send-device")
        {
            Description =
                "The trainer's GPU, to send by NCCL: cuda or cuda:N, another than the workers'; several, with commas, send a slice each",
        };
        var source = new Option<string>("--source")
        {
            Description =
                "Where the trainer's weights are: cpu, as they are in training now, or gpu, on the first --send-device in the workers' type",
            DefaultValueFactory = _ => "cpu",
        };
        source.AcceptOnlyFromAmong("cpu", "gpu");
        var transport = new Option<WeightTransportChoice>("--transport")
        {
            Description = "How weights travel",
            DefaultValueFactory = _ => WeightTransportChoice.Auto,
        };
        var overlap = new Option<bool>("--overlap")
        {
            Description = "Receive into a second buffer, and swap between two steps",
        };
        var delta = new Option<bool>("--delta") { Description = "Over TCP, send only what has changed" };
        var changed = new Option<double>("--changed")
        {
            Description = "Fraction of the elements that differ from update to update",
            DefaultValueFactory = _ => 1,
        };
        var rounds = new Option<int>("--rounds")
        {
            Description = "Updates that are measured, after two that warm up",
            DefaultValueFactory = _ => 5,
        };
        var json = new Option<string>("--json") { Description = "Write the figures to this file" };
        var command = new Command(
            "sync",
            "Time of a weight update by phase, against a bare broadcast and against sending parameter by parameter"
        )
        {
            model,
            workers,
            device,
            type,
            sendDevice,
            source,
            transport,
            overlap,
            delta,
            changed,
            rounds,
            json,
        };
        command.SetAction(
            (parse, _) =>
                CommandErrors.RunAsync(async () =>
                {
                    var result = await new SyncBenchmark(
                        new()
                        {
                            Model = parse.GetValue(model)!,
                            Rounds = parse.GetValue(rounds),
                            Changed = parse.GetValue(changed),
                            SourceOnGpu = parse.GetValue(source) == "gpu",
                            Cluster = new()
                            {
                                Workers = parse.GetValue(workers),
                                Device = parse.GetValue(device)!,
                                Type = parse.GetValue(type)!,
                                SendDevice = parse.GetValue(sendDevice),
                                Transport = parse.GetValue(transport),
                                Overlap = parse.GetValue(overlap),
                                Delta = parse.GetValue(delta),
                            },
                        },
                        Console.WriteLine
                    ).RunAsync();
                    if (parse.GetValue(json) is { } path)
                        File.WriteAllText(path, JsonSerializer.Serialize(new[] { result }, Indented));
                    return 0;
                })
        );
        return command;
    }

    private static FlatWeights LoadWeights(string name, ScalarType type, CudaDevice? gpu)
    {
        if (Directory.Exists(name))
            return gpu is null ? Checkpoint.Load(name) : Checkpoint.Load(name, type, gpu);
        if (gpu is null)
            throw new ArgumentException(
                $"{name}: no such folder; shapes with random weights are measured on a GPU (--device cuda)"
            );
        return NamedShapes.RandomWeights(NamedShapes.Get(name), type, gpu);
    }

    /// <summary>How long a process needs from its start to the first token of its first prompt.</summary>
    private static BenchmarkResult Start(
        FlatWeights weights,
        string name,
        CudaDevice? gpu,
        EngineOptions options,
        double opened,
        double loaded
    )
    {
        using var decoder = new Decoder(weights);
        using var engine = new Engine(decoder, null, options);
        double ready = SinceStart(),
            first = 0;
        engine.Submit(
            [
                new(
                    "first",
                    [.. Enumerable.Range(0, 128).Select(i => i % weights.Layout.Config.VocabularySize)],
                    new() { MaxTokens = 1 }
                ),
            ],
            onToken: _ => first = SinceStart()
        );
        while (engine.Step()) { }
        Console.WriteLine(
            $"start     {first:0.00} s to the first token: {opened:0.00} until the device is open, {loaded - opened:0.00} for the weights, {ready - loaded:0.00} for the engine, {first - ready:0.00} for a prompt of 128 tokens"
        );
        return new(
            "start",
            name,
            gpu?.Name ?? "CPU",
            weights.Flat.dtype.ToString(),
            new(StringComparer.Ordinal)
            {
                ["seconds_to_first_token"] = first,
                ["seconds_device"] = opened,
                ["seconds_weights"] = loaded - opened,
                ["seconds_engine"] = ready - loaded,
                ["seconds_first_prompt"] = first - ready,
            }
        );
    }

    private static double SinceStart() => (DateTime.Now - Process.GetCurrentProcess().StartTime).TotalSeconds;

    private static void PrintProfile(IReadOnlyList<(string Name, long Calls, double Milliseconds)> kernels)
    {
        double total = kernels.Sum(k => k.Milliseconds);
        Console.WriteLine($"{"kernel", -34} {"calls", 9} {"ms", 10} {"µs a call", 10} {"share", 7}");
        foreach (var (name, calls, milliseconds) in kernels)
            Console.WriteLine(
                $"{name, -34} {calls, 9:N0} {milliseconds, 10:N1} {1000 * milliseconds / calls, 10:N1} {milliseconds / total, 7:P1}"
            );
        Console.WriteLine($"{"all", -34} {kernels.Sum(k => k.Calls), 9:N0} {total, 10:N1}");
    }
}
