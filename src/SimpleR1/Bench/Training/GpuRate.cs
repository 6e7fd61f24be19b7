using System.Diagnostics;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Bench.Training;

/// <summary>What a GPU's matrix unit computes: of one large product here, and by the data sheet.</summary>
/// <param name="Measured">Sustained TFLOP/s of a square product, for about a second.</param>
/// <param name="Size">Rows, columns and depth of that product.</param>
/// <param name="Nominal">Dense TFLOP/s in bf16 and f16; null for other types and unknown GPUs.</param>
internal sealed record GpuRate(double Measured, int Size, double? Nominal)
{
    private const int LargeSize = 8192;
    private const int SmallSize = 1032; // cuBLASLt's kernels for up to 1,024 rows would be measured and remembered
    private const double Seconds = 1;
    private const double SlowSeconds = 0.05; // of the small product, on an emulator

    /// <summary>
    /// Dense bf16 TFLOP/s of NVIDIA's data sheets by the name that the driver reports. Names are complete: a part of a
    /// GPU, a PCIe card and a notebook's chip have similar names and other rates.
    /// </summary>
    private static readonly Dictionary<string, double> NominalByName = new()
    {
        ["NVIDIA H100 80GB HBM3"] = 989,
        ["NVIDIA H200"] = 989,
        ["NVIDIA A100-SXM4-40GB"] = 312,
        ["NVIDIA A100-SXM4-80GB"] = 312,
        ["NVIDIA A100-PCIE-40GB"] = 312,
        ["NVIDIA A100 80GB PCIe"] = 312,
        ["NVIDIA L40S"] = 362,
        ["NVIDIA GeForce RTX 4090"] = 165,
    };

    /// <summary>Dense TFLOP/s by the data sheet; null if the GPU or the type is not in the table.</summary>
    public static double? NominalOf(string gpu, ElementType type) =>
        type.Bytes == 2 && NominalByName.TryGetValue(gpu, out double rate) ? rate : null;

    /// <summary>Multiplies for about a second, by the library and the operation that training uses.</summary>
    /// <exception cref="CudaOutOfMemoryException">Three matrices don't fit.</exception>
    public static GpuRate Measure(CudaDevice gpu, ElementType type)
    {
        // An emulator would need minutes for the large product.
        int size = SmallSize;
        double seconds = Time(gpu, type, size, 1);
        if (seconds < SlowSeconds)
        {
            size = LargeSize;
            seconds = Time(gpu, type, size, 1);
        }

        int calls = Math.Max(1, (int)(Seconds / seconds));
        double flops = 2.0 * size * size * size;
        return new(flops / Time(gpu, type, size, calls) / 1e12, size, NominalOf(gpu.Name, type));
    }

    /// <returns>Seconds of one product, on average over all calls, after one that warms up.</returns>
    private static double Time(CudaDevice gpu, ElementType type, int size, int calls)
    {
        long bytes = (long)size * size * type.Bytes;
        using var memory = gpu.Allocate(2 * bytes, "two matrices of the GPU's rate");
        gpu.Kernels.Get("RandomFill", "random_fill", type.Definition())
            .Launch((gpu.Multiprocessors, 1), 256, 0, memory, 2L * size * size, 0f, 1f, 3);
        using var arena = new Arena(gpu);
        arena.Reserve(bytes, "");
        using var x = memory.Tensor([size, size], type.Scalar); // [size, size]
        using var weight = memory.Tensor([size, size], type.Scalar, bytes); // [size, size]

        void Multiply()
        {
            using var results = arena.Enter();
            arena.Reset();
            Ops.Linear(null, x, weight).Dispose();
        }

        Multiply();
        gpu.Synchronize();
        var watch = Stopwatch.StartNew();
        for (int i = 0; i < calls; i++)
            Multiply();
        gpu.Synchronize();
        return watch.Elapsed.TotalSeconds / calls;
    }

    /// <summary>Adds the rates and the shares of them that training reaches.</summary>
    /// <param name="figures">With <c>model_tflops_per_second</c>.</param>
    public void AddShares(SortedDictionary<string, double> figures)
    {
        double rate = figures["model_tflops_per_second"];
        figures["measured_tflops_per_second"] = Measured;
        figures["share_of_measured_rate"] = rate / Measured;
        if (Nominal is not { } nominal)
            return;

        figures["nominal_tflops_per_second"] = nominal;
        figures["share_of_nominal_rate"] = rate / nominal;
    }

    /// <summary>The shares in words.</summary>
    /// <param name="modelRate">TFLOP/s of the model.</param>
    public string Describe(double modelRate)
    {
        string text =
            $"{100 * modelRate / Measured:0}% of the {Measured:0.##} TFLOP/s of a product of {Size}³ in this run";
        return Nominal is { } nominal ? $"{text}, {100 * modelRate / nominal:0}% of the nominal {nominal:0}" : text;
    }
}
