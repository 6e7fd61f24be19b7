using System.Diagnostics;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.WeightSync.SharedMemory;

namespace SimpleR1.Bench;

/// <summary>
/// Shows whether worker processes, weight transfer and rollouts work on this machine, on a model of a few thousand
/// random weights.
/// </summary>
public static class ClusterSelfTest
{
    private const int Prompts = 16;
    private const int Samples = 4;

    public static ModelConfig TinyModel { get; } =
        new()
        {
            Family = ModelFamily.Llama,
            VocabularySize = 64,
            HiddenSize = 32,
            IntermediateSize = 64,
            Layers = 2,
            Heads = 4,
            KeyValueHeads = 2,
            HeadDimension = 8,
            MaxPositions = 1024,
            RmsNormEpsilon = 1e-6,
            RopeTheta = 10_000,
            TieEmbeddings = true,
        };

    /// <summary>Starts a cluster, pushes weights, runs rollouts and prints what happened.</summary>
    /// <param name="keepBusy">Continue with rollouts until cancelled (or killed).</param>
    public static async Task RunAsync(
        TextWriter output,
        ClusterOptions options,
        bool keepBusy,
        CancellationToken cancellation
    )
    {
        using var weights = SharedWeightMemory.Allocate(new WeightLayout(TinyModel));
        weights.Flat.uniform_(-0.1, 0.1);
        var clock = Stopwatch.StartNew();
        await using var cluster = await TrainerCluster.StartAsync(options, new(TinyModel, null, new()), cancellation);
        await output.WriteLineAsync($"head up at {cluster.Join} after {clock.Elapsed.TotalSeconds:F2} s");
        for (int version = 0; version == 0 || keepBusy; version++)
        {
            // Weights.
            var sync = await cluster.Workers.PushWeightsAsync(weights, version, cancellation);
            if (version == 0)
                await output.WriteLineAsync(
                    $"{sync.Workers.Count} workers joined and verified after {clock.Elapsed.TotalSeconds:F2} s"
                );
            await output.WriteLineAsync(
                $"weights version {version} by {sync.Transport}: {sync.TotalSeconds * 1e3:F1} ms, hash {sync.Hash:x16}"
            );

            // Rollouts.
            int completions = 0;
            await foreach (var _ in cluster.Workers.GenerateAsync(Requests(), cancellation: cancellation))
                completions++;
            await output.WriteLineAsync($"{completions} of {Prompts * Samples} completions");
            foreach (var worker in cluster.Workers.Status())
                await output.WriteLineAsync(
                    $"worker {worker.Number}: process {worker.ProcessId}, {worker.State}, "
                        + $"{worker.TokensPerSecond:F0} tokens/s, peak {worker.PeakMemoryBytes >> 20} MiB"
                );
        }
    }

    private static GenerationRequest[] Requests()
    {
        var sampling = new SamplingParameters { Samples = Samples, MaxTokens = 64 };
        return
        [
            .. Enumerable
                .Range(0, Prompts)
                .Select(i => new GenerationRequest($"request {i}", [1, 2, 3 + i], sampling with { Seed = (ulong)i })),
        ];
    }
}
