using System.Diagnostics;
using SimpleR1.Models;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Sync;

/// <summary>What a weight transfer costs, against one memcpy of the same bytes in the same run.</summary>
public static unsafe class SyncBenchmark
{
    /// <summary>The shape of SmolLM2-135M.</summary>
    public static ModelConfig Smol135M { get; } = new()
    {
        Family = ModelFamily.Llama,
        VocabularySize = 49152,
        HiddenSize = 576,
        IntermediateSize = 1536,
        Layers = 30,
        Heads = 9,
        KeyValueHeads = 3,
        HeadDimension = 64,
        MaxPositions = 8192,
        RmsNormEpsilon = 1e-5,
        RopeTheta = 100_000,
        TieEmbeddings = true,
    };

    /// <summary>Fills a shared buffer, sends it to a private one by each transport, and prints medians. Both ends run in this process.</summary>
    /// <returns>Median seconds by name, "memcpy" among them.</returns>
    public static IReadOnlyDictionary<string, double> Run(TextWriter output, ModelConfig? config = null, int rounds = 9)
    {
        var layout = new WeightLayout(config ?? Smol135M);
        using var source = SharedWeightMemory.Allocate(layout);
        using var destination = new FlatWeights(layout, ScalarType.Float32, CPU);
        source.Flat.uniform_(-1, 1);
        long bytes = source.ByteLength;
        output.WriteLine($"Weight sync of {layout.ParameterCount / 1e6:F1} M parameters, f32, {bytes / 1e6:F0} MB, {CpuParallel.Threads} threads, median of {rounds}");
        ulong expected = WeightHash.Compute(source.Pointer, bytes);
        var plan = BroadcastPlan.For(source, 1);
        var seconds = new Dictionary<string, double>();

        Measure("memcpy", () => Buffer.MemoryCopy((void*)source.Pointer, (void*)destination.Pointer, bytes, bytes));
        Measure("hash", () => Verify(WeightHash.Compute(source.Pointer, bytes)));
        Measure("copy and hash", () => Verify(WeightHash.CopyAndHash(source.Pointer, destination.Pointer, bytes)));
        using (var memory = new SharedMemoryTransport()) Transfer(memory);
        using (var tcp = new TcpTransport()) Transfer(tcp);
        return seconds;

        void Transfer(IWeightTransport transport) => Measure(transport.Name, () =>
        {
            using var offer = transport.Offer(source, plan, ["worker"]);
            Verify(transport.Receive(offer.Invitations[0], destination, TimeSpan.FromSeconds(30)));
        });

        void Verify(ulong hash)
        {
            if (hash != expected) throw new InvalidOperationException($"The copy's hash is {hash:x16}, expected {expected:x16}");
        }

        void Measure(string name, Action action)
        {
            action(); // maps, connects and compiles
            var times = new double[rounds];
            for (int i = 0; i < rounds; i++)
            {
                long start = Stopwatch.GetTimestamp();
                action();
                times[i] = Stopwatch.GetElapsedTime(start).TotalSeconds;
            }
            Array.Sort(times);
            double median = seconds[name] = times[rounds / 2];
            output.WriteLine($"  {name,-14} {median * 1e3,8:F1} ms  {bytes / median / 1e9,6:F1} GB/s  {median / seconds["memcpy"],5:F2} × memcpy");
        }
    }
}
