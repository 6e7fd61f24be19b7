using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Bench;

/// <summary>
/// Microseconds of each product of a layer by the number of rows; every layer's weights in turn, so that they come from
/// memory.
/// </summary>
internal sealed class ProductBenchmark(FlatWeights weights, string model, Action<string> log)
{
    private static readonly int[] Rows = [1, 4, 8, 32, 64, 128, 256, 512, 1024];
    private static readonly string[] Products = ["qkv", "attention_output", "gate_up", "down"];

    private readonly CudaDevice gpu = weights.Device!;

    public BenchmarkResult Run()
    {
        var figures = new SortedDictionary<string, double>(StringComparer.Ordinal);
        log($"products  {"µs with rows", -22}{string.Concat(Rows.Select(r => $"{r, 8}"))}");
        foreach (string name in Products)
        {
            var shape = weights[$"layers.0.{name}"].shape; // [outputs, inputs]
            double[] times = Measure(name, shape[0], shape[1]);
            foreach (var (rows, time) in Rows.Zip(times))
                figures[$"{name}_{rows}_microseconds"] = time;
            log($"  {$"{name} [{shape[0]}, {shape[1]}]", -30}{string.Concat(times.Select(t => $"{t, 8:0.0}"))}");
        }
        return new("products", model, gpu.Name, weights.Flat.dtype.ToString(), figures);
    }

    /// <returns>Microseconds for each of <see cref="Rows"/>.</returns>
    private double[] Measure(string name, long outputs, long inputs)
    {
        var type = weights.Flat.dtype;
        long elements = Rows[^1] * inputs;
        using var memory = gpu.Allocate(elements * type.ElementSize(), "the benchmark's input");
        gpu.Kernels.Get("RandomFill", "random_fill", ElementType.Of(type).Definition())
            .Launch((gpu.Multiprocessors, 1), 256, 0, memory, elements, 0f, 1f, 3);
        using var arena = new Arena(gpu);
        arena.Reserve(Rows[^1] * outputs * 4, "");

        double Time(int rows)
        {
            using var scope = NewDisposeScope();
            var x = memory.Tensor([rows, inputs], type);
            void Multiply(int layer)
            {
                using var results = arena.Enter();
                arena.Reset();
                Ops.Linear(null, x, weights[$"layers.{layer}.{name}"]);
            }
            return 1e6 * GpuTimer.TimeEach(gpu, weights.Layout.Config.Layers, Multiply);
        }
        return [.. Rows.Select(Time)];
    }
}
