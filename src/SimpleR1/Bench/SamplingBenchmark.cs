using SimpleR1.Inference;
using SimpleR1.Inference.Cuda;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Bench;

/// <summary>
/// The kernels of the sampling filters alone, on rows of normal logits with the model's vocabulary, next to a copy of as
/// many bytes in the same run.
/// </summary>
internal sealed class SamplingBenchmark(
    FlatWeights weights,
    string model,
    EngineBenchmarkOptions options,
    Action<string> log
)
{
    private const float Deviation = 3;

    private static readonly (string Name, SamplingParameters Sampling)[] settings =
    [
        ("top_k", new() { MaxTokens = 1, TopK = 50 }),
        ("top_p", new() { MaxTokens = 1, TopP = 0.95 }),
        (
            "both",
            new()
            {
                MaxTokens = 1,
                TopK = 50,
                TopP = 0.95,
            }
        ),
    ];

    private readonly CudaDevice gpu = weights.Device!;
    private readonly int vocabulary = weights.Layout.Config.VocabularySize;

    public BenchmarkResult Run()
    {
        var figures = new SortedDictionary<string, double>(StringComparer.Ordinal);
        foreach (int rows in new[] { 1, options.Scaled(1024) })
            Measure(rows, figures);
        return new("sampling", model, gpu.Name, weights.Flat.dtype.ToString(), figures);
    }

    private void Measure(int rows, SortedDictionary<string, double> figures)
    {
        // Rows of logits.
        long bytes = 4L * rows * vocabulary;
        using var logits = gpu.Allocate(bytes, "logits");
        using var copy = gpu.Allocate(bytes, "a copy of the logits");
        using var slots = gpu.Allocate(4L * rows, "slots");
        using var parameters = gpu.Allocate(4L * CudaSlotParameters.Length * rows, "sampling parameters");
        using var filters = new CudaFilters(gpu, vocabulary, rows);
        gpu.Kernels.Get("RandomFill", "random_fill", "ELEMENT=float")
            .Launch((4 * gpu.Multiprocessors, 1), 256, 0, logits, bytes / 4, 0f, Deviation, 1);
        gpu.Write<int>(slots.Pointer, [.. Enumerable.Range(0, rows)]);

        // A copy, which reads and writes them once.
        double copySeconds = GpuTimer.TimeEach(gpu, 4, _ => gpu.CopyWithin(logits.Pointer, copy.Pointer, bytes));
        figures[$"copy_{rows}_microseconds"] = 1e6 * copySeconds;

        foreach (var (name, sampling) in settings)
        {
            gpu.Write<CudaSlotParameters>(
                parameters.Pointer,
                [.. Enumerable.Repeat(CudaSlotParameters.Of(sampling, seed: 1, promptLength: 1), rows)]
            );
            int shares = CudaSampler.SharesOf(gpu, vocabulary, rows);
            double seconds = GpuTimer.TimeEach(
                gpu,
                4,
                _ => filters.Launch(logits.Pointer, slots.Pointer, parameters.Pointer, rows, shares)
            );
            figures[$"{name}_{rows}_microseconds"] = 1e6 * seconds;
            log(
                $"sampling {rows} rows of {vocabulary:N0}, {name}: {1e6 * seconds:0.0} µs; "
                    + $"a copy of the logits: {1e6 * copySeconds:0.0} µs"
            );
        }
    }
}
