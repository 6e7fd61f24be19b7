using System.Diagnostics;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Training.Policy;
using static TorchSharp.torch;

namespace SimpleR1.Benchmarks;

/// <summary>
/// The engine and the trainer next to <see cref="PlainLlama"/>, in the same run, on SmolLM2-135M's shape.
/// </summary>
internal static class PeerBenchmarks
{
    private const int Rounds = 3;
    private const int Vocabulary = 49152;

    private static ModelConfig SmolLm135M { get; } =
        new()
        {
            Family = ModelFamily.Llama,
            VocabularySize = Vocabulary,
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

    /// <summary>
    /// Decoding at a context of 224 to 255 tokens: tokens per second of the engine (paged cache, sampling with
    /// log-probs) and of the plain loop (argmax).
    /// </summary>
    public static void Engine()
    {
        using var weights = RandomWeights();
        Console.WriteLine(
            $"decode, SmolLM2-135M shape, f32, {CpuParallel.Threads} threads, context 224 to 255 (median of {Rounds})"
        );
        Console.WriteLine("batch   engine tok/s   plain TorchSharp tok/s   ratio");
        foreach (int batch in new[] { 1, 8, 32, 64 })
        {
            double[] engine = new double[Rounds];
            double[] plain = new double[Rounds];
            for (int round = 0; round < Rounds; round++)
            {
                engine[round] = EngineDecode(weights, batch);
                plain[round] = PlainDecode(weights, batch);
            }
            Array.Sort(engine);
            Array.Sort(plain);
            Console.WriteLine($"{batch, 5}   {engine[1], 12:F0}   {plain[1], 22:F0}   {engine[1] / plain[1], 5:F2}");
        }
    }

    /// <summary>
    /// Forward and backward of 8 sequences of 256 tokens; the trainer also clips and updates by AdamW.
    /// </summary>
    public static void Training()
    {
        using var weights = RandomWeights();
        var random = new Random(1);
        TrainingSequence Sequence() => new([.. Enumerable.Range(0, 257).Select(_ => random.Next(Vocabulary))], 1);
        TrainingSequence[] sequences = [.. Enumerable.Range(0, 8).Select(_ => Sequence())];
        double trainer = TrainerSpeed(weights, sequences);
        double plain = PlainTrainingSpeed(weights, sequences);
        Console.WriteLine(
            $"training, SmolLM2-135M shape, f32, {CpuParallel.Threads} threads, 8 x 256 tokens (best of {Rounds})"
        );
        Console.WriteLine(
            $"SimpleR1 (with clipping and AdamW) {trainer:F0} tok/s, plain TorchSharp (without) {plain:F0} tok/s, "
                + $"ratio {trainer / plain:F2}"
        );
    }

    private static FlatWeights RandomWeights()
    {
        var weights = new FlatWeights(new WeightLayout(SmolLm135M), ScalarType.Float32, CPU);
        using var none = no_grad();
        weights.Flat.normal_(0, 0.02);
        foreach (var slot in weights.Layout.Slots.Where(s => s.IsNorm))
            weights[slot.Name].fill_(1);
        return weights;
    }

    private static double EngineDecode(FlatWeights weights, int batch)
    {
        const int promptTokens = 224;
        const int newTokens = 32;
        var options = new EngineOptions
        {
            KvCacheBytes = 2L << 30,
            MaxBatchedTokens = 4096,
            MaxSequences = batch,
        };
        var sampling = new SamplingParameters { MaxTokens = newTokens, IgnoreEos = true };
        using var decoder = new Decoder(weights);
        using var engine = new Engine(decoder, null, options);
        var random = new Random(1);
        GenerationRequest Request(int i) =>
            new(
                $"{i}",
                [.. Enumerable.Range(0, promptTokens).Select(_ => random.Next(Vocabulary))],
                sampling with
                {
                    Seed = (ulong)i,
                }
            );

        // All prompts, before the clock starts.
        int finished = 0;
        engine.Submit([.. Enumerable.Range(0, batch).Select(Request)], null, _ => finished++);
        while (engine.Statistics.Waiting > 0 || engine.Statistics.SampledTokens < batch)
            engine.Step();

        long before = engine.Statistics.SampledTokens;
        var watch = Stopwatch.StartNew();
        while (finished < batch)
            engine.Step();
        return (engine.Statistics.SampledTokens - before) / watch.Elapsed.TotalSeconds;
    }

    private static double PlainDecode(FlatWeights weights, int batch)
    {
        const int warmUp = 2;
        const int steps = 12;
        using var none = inference_mode();
        using var model = new PlainLlama(weights, train: false);
        using var scope = NewDisposeScope();
        var cache = model.NewCache(batch, 256);
        var ids = randint(0, Vocabulary, [batch]);
        var watch = new Stopwatch();
        for (int i = -warmUp; i < steps; i++)
        {
            if (i == 0)
                watch.Start();
            using var inner = NewDisposeScope();
            model.Decode(ids, cache, 240 + Math.Max(0, i)).sum().item<long>();
        }
        return batch * steps / watch.Elapsed.TotalSeconds;
    }

    private static double TrainerSpeed(FlatWeights weights, TrainingSequence[] sequences)
    {
        double best = 0;
        using var policy = new PolicyModel(new(weights), new(weights, new() { LearningRate = 1e-9 }), new(2048));
        for (int i = 0; i < Rounds; i++)
        {
            var update = policy.Update(sequences, 1, 0, 1e-9, (_, logProbs) => (-logProbs.mean(), []));
            best = Math.Max(best, update.Tokens / update.Seconds);
        }
        return best;
    }

    private static double PlainTrainingSpeed(FlatWeights weights, TrainingSequence[] sequences)
    {
        double best = 0;
        using var model = new PlainLlama(weights, train: true);
        using var ids = tensor(sequences.SelectMany(s => s.Tokens[..256].Select(t => (long)t)).ToArray(), [8, 256]);
        for (int i = 0; i < Rounds; i++)
        {
            var watch = Stopwatch.StartNew();
            model.TrainStep(ids);
            best = Math.Max(best, ids.numel() / watch.Elapsed.TotalSeconds);
        }
        return best;
    }
}
