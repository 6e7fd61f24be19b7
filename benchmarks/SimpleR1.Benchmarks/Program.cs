using System.Diagnostics;
using System.Globalization;
using SimpleR1.Bench.Sync;
using SimpleR1.Benchmarks;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Training.Policy;
using static TorchSharp.torch;

CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
NativeMemoryTuning.Apply();
if (await ClusterBenchmark.RunAsync(args) is { } code)
    return code; // "cluster NAME", and the processes that it starts
if (args is ["faulty-worker", var fault, .. var worker])
    return await SyncAbuse.FaultyWorkerAsync(fault, worker); // started by sync abuse
if (args is ["sync", "abuse", .. var abuse])
    return await SyncAbuse.RunAsync(Console.Out, abuse);
if (args is ["sync", "soak", .. var soak])
    return await SyncSoak.RunAsync(Console.Out, soak);
CpuParallel.Threads = 2;
if (args is ["http-server"])
    return await HttpAbuseServer.RunAsync(); // started by http-abuse
string[] all = ["engine", "training", "sync", "http-abuse"];
string[] wanted = args.Length == 0 ? all : args;
foreach (string name in wanted)
{
    switch (name)
    {
        case "engine":
            EngineBenchmark();
            break;
        case "training":
            TrainingBenchmark();
            break;
        case "sync":
            await new SyncBenchmark(
                new()
                {
                    Model = "smollm2-135m",
                    Cluster = new() { Workers = 1 },
                },
                Console.WriteLine
            ).RunAsync();
            break;
        case "http-abuse":
            await HttpAbuseServer.AbuseAsync(Console.Out);
            break;
        default:
            Console.Error.WriteLine(
                $"unknown benchmark '{name}'; there are {string.Join(", ", all)}, sync abuse, sync soak, and cluster NAME"
            );
            return 2;
    }
}
return 0;

static ModelConfig SmolLm135M() =>
    new()
    {
        Family = ModelFamily.Llama,
        VocabularySize = 49152,
        HiddenSize = 576,
        IntermediateSize = 1536,
        Layers = 30,
        Heads = 9,
        KeyValueHeads = 3,
        HeadDimension = 64,
        MaxPositions = 2048,
        RmsNormEpsilon = 1e-5,
        RopeTheta = 10_000,
        TieEmbeddings = true,
        EosTokenIds = [0],
    };

static FlatWeights RandomWeights(ModelConfig config)
{
    var weights = new FlatWeights(new WeightLayout(config), ScalarType.Float32, CPU);
    using var none = no_grad();
    weights.Flat.normal_(0, 0.02);
    foreach (var slot in weights.Layout.Slots.Where(s => s.Name.EndsWith("norm", StringComparison.Ordinal)))
        weights[slot.Name].fill_(1);
    return weights;
}

// Decode at a context of 224 to 255 tokens: tokens per second of the engine (paged cache, sampling with log-probs) and of the plain loop (argmax).
static void EngineBenchmark()
{
    using var weights = RandomWeights(SmolLm135M());
    Console.WriteLine(
        $"decode, SmolLM2-135M shape, f32, {CpuParallel.Threads} threads, context 224 to 255 (median of 3)"
    );
    Console.WriteLine("batch   engine tok/s   plain TorchSharp tok/s   ratio");
    foreach (int batch in new[] { 1, 8, 32, 64 })
    {
        double[] ours = new double[3],
            plain = new double[3];
        for (int round = 0; round < 3; round++)
            (ours[round], plain[round]) = (EngineDecode(weights, batch), PlainDecode(weights, batch));
        Array.Sort(ours);
        Array.Sort(plain);
        Console.WriteLine($"{batch, 5}   {ours[1], 12:F0}   {plain[1], 22:F0}   {ours[1] / plain[1], 5:F2}");
    }
}

static double EngineDecode(FlatWeights weights, int batch)
{
    const int prompt = 224,
        tokens = 32;
    using var decoder = new SimpleR1.Models.Decoder(weights);
    using var engine = new Engine(
        decoder,
        null,
        new EngineOptions
        {
            KvCacheBytes = 2L << 30,
            MaxBatchedTokens = 4096,
            MaxSequences = batch,
        }
    );
    var random = new Random(1);
    int finished = 0;
    engine.Submit(
        [
            .. Enumerable
                .Range(0, batch)
                .Select(i => new GenerationRequest(
                    $"{i}",
                    [.. Enumerable.Range(0, prompt).Select(_ => random.Next(49152))],
                    new()
                    {
                        MaxTokens = tokens,
                        IgnoreEos = true,
                        Seed = (ulong)i,
                    }
                )),
        ],
        null,
        _ => finished++
    );
    while (engine.Statistics.Waiting > 0 || engine.Statistics.SampledTokens < batch)
        engine.Step(); // prompts
    long before = engine.Statistics.SampledTokens;
    var watch = Stopwatch.StartNew();
    while (finished < batch)
        engine.Step();
    return (engine.Statistics.SampledTokens - before) / watch.Elapsed.TotalSeconds;
}

static double PlainDecode(FlatWeights weights, int batch)
{
    using var none = inference_mode();
    using var model = new PlainLlama(weights, train: false);
    using var scope = NewDisposeScope();
    var cache = model.NewCache(batch, 256);
    var ids = randint(0, 49152, [batch]);
    const int steps = 12;
    var watch = new Stopwatch();
    for (int i = -2; i < steps; i++)
    {
        if (i == 0)
            watch.Start();
        using var inner = NewDisposeScope();
        model.Decode(ids, cache, 240 + Math.Max(0, i)).sum().item<long>();
    }
    return batch * steps / watch.Elapsed.TotalSeconds;
}

// Forward and backward of 8 sequences of 256 tokens; ours also clips and updates by AdamW.
static void TrainingBenchmark()
{
    using var weights = RandomWeights(SmolLm135M());
    var random = new Random(1);
    TrainingSequence[] sequences =
    [
        .. Enumerable
            .Range(0, 8)
            .Select(_ => new TrainingSequence([.. Enumerable.Range(0, 257).Select(_ => random.Next(49152))], 1)),
    ];
    double ours = 0,
        plain = 0;
    using (var policy = new PolicyModel(new(weights), new(weights, new() { LearningRate = 1e-9 }), new(2048)))
        for (int i = 0; i < 3; i++)
        {
            var update = policy.Update(sequences, 1, 0, 1e-9, (_, logProbs) => (-logProbs.mean(), []));
            ours = Math.Max(ours, update.Tokens / update.Seconds);
        }
    using (var model = new PlainLlama(weights, train: true))
    {
        using var ids = tensor(sequences.SelectMany(s => s.Tokens[..256].Select(t => (long)t)).ToArray(), [8, 256]);
        for (int i = 0; i < 3; i++)
        {
            var watch = Stopwatch.StartNew();
            model.TrainStep(ids);
            plain = Math.Max(plain, 2048 / watch.Elapsed.TotalSeconds);
        }
    }
    Console.WriteLine($"training, SmolLM2-135M shape, f32, {CpuParallel.Threads} threads, 8 x 256 tokens (best of 3)");
    Console.WriteLine(
        $"ours (with clipping and AdamW) {ours:F0} tok/s, plain TorchSharp (without) {plain:F0} tok/s, ratio {ours / plain:F2}"
    );
}
