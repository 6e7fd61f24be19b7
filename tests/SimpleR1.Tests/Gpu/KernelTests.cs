using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

/// <summary>Each kernel against its CPU reference on random inputs; results start as NaNs.</summary>
[Collection("GPU"), Trait("Category", "Gpu")]
public sealed class KernelTests
{
    public static readonly TheoryData<ScalarType> Types = [ScalarType.Float32, ScalarType.Float16, ScalarType.BFloat16];

    /// <summary>An arena full of NaNs.</summary>
    internal static Arena PoisonedArena(CudaDevice gpu, long bytes = 8 << 20)
    {
        var arena = new Arena(gpu);
        arena.Reserve(bytes, "");
        using var all = arena.Take([bytes / 4], float32);
        gpu.Fill(Aten.DataPointer(all), 0xff, bytes / 4 * 4);
        arena.Reset();
        return arena;
    }

    [Theory, MemberData(nameof(Types))]
    public void Embedding_is_a_gather(ScalarType type)
    {
        var gpu = Gpu.Require();
        using var arena = PoisonedArena(gpu);
        using var results = arena.Enter();
        using var scope = NewDisposeScope();
        using var table = Gpu.Upload(gpu, Gpu.Normal(37 * 56, 1), type, out float[] values);
        long[] ids = [36, 0, 5, 5, -1, 12];
        using var idMemory = gpu.Allocate(64, "a test");
        gpu.Write<long>(idMemory.Pointer, ids);
        var x = Ops.Embedding(null, table.Tensor([37, 56], type), idMemory.Tensor([6], int64));
        float[] expected =
        [
            .. ids.SelectMany(id => Enumerable.Range(0, 56).Select(i => id < 0 ? 0 : values[id * 56 + i])),
        ];
        Assert.Equal(expected, Gpu.Download(gpu, Aten.DataPointer(x), expected.Length, ScalarType.Float32));
    }

    [Theory, MemberData(nameof(Types))]
    public void Norms_equal_the_CPUs(ScalarType type)
    {
        var gpu = Gpu.Require();
        foreach (int width in new[] { 8, 56, 896, 9000 })
        {
            using var arena = PoisonedArena(gpu);
            using var results = arena.Enter();
            using var scope = NewDisposeScope();
            const int rows = 5;
            float[] x = Gpu.Normal(rows * width, 2, 3);
            using var xMemory = Gpu.Upload(gpu, x, ScalarType.Float32, out _);
            using var deltaMemory = Gpu.Upload(gpu, Gpu.Normal(rows * width, 3), type, out float[] delta);
            using var weightMemory = Gpu.Upload(gpu, Gpu.Normal(width, 4), type, out float[] weight);
            var (sum, normed) = Ops.AddRmsNorm(
                null,
                xMemory.Tensor([rows, width], float32),
                deltaMemory.Tensor([rows, width], type),
                weightMemory.Tensor([width], type),
                1e-5
            );
            var (cpuSum, cpuNormed) = Ops.AddRmsNorm(
                null,
                tensor(x, [rows, width]),
                tensor(delta, [rows, width]),
                tensor(weight),
                1e-5
            );
            Gpu.AssertClose(
                cpuSum.data<float>().ToArray(),
                Gpu.Download(gpu, Aten.DataPointer(sum), rows * width, ScalarType.Float32),
                1e-6
            );
            Gpu.AssertClose(
                cpuNormed.data<float>().ToArray(),
                Gpu.Download(gpu, Aten.DataPointer(normed), rows * width, type),
                Gpu.Tolerance(type)
            );
            var alone = Ops.RmsNorm(
                null,
                xMemory.Tensor([rows, width], float32),
                weightMemory.Tensor([width], type),
                1e-5
            );
            Gpu.AssertClose(
                Ops.RmsNorm(null, tensor(x, [rows, width]), tensor(weight), 1e-5).data<float>().ToArray(),
                Gpu.Download(gpu, Aten.DataPointer(alone), rows * width, type),
                Gpu.Tolerance(type)
            );
        }
    }

    [Theory, MemberData(nameof(Types))]
    public void Products_of_few_and_many_rows_equal_the_CPUs(ScalarType type)
    {
        var gpu = Gpu.Require();
        foreach (int rows in new[] { 1, 2, 3, 4, 5, 33 })
        foreach (
            var (outputs, inputs, biased) in new[] { (64, 56, true), (40, 896, false), (24, 8, true), (24, 2104, true) }
        )
        {
            using var arena = PoisonedArena(gpu);
            using var results = arena.Enter();
            using var scope = NewDisposeScope();
            using var xMemory = Gpu.Upload(gpu, Gpu.Normal(rows * inputs, 5), type, out float[] x);
            using var weightMemory = Gpu.Upload(gpu, Gpu.Normal(outputs * inputs, 6, 0.1), type, out float[] weight);
            using var biasMemory = Gpu.Upload(gpu, Gpu.Normal(outputs, 7), type, out float[] bias);
            var (gpuX, gpuWeight) = (
                xMemory.Tensor([rows, inputs], type),
                weightMemory.Tensor([outputs, inputs], type)
            );
            var y = Ops.Linear(null, gpuX, gpuWeight, biased ? biasMemory.Tensor([outputs], type) : null);
            var expected = Ops.Linear(
                null,
                tensor(x, [rows, inputs]),
                tensor(weight, [outputs, inputs]),
                biased ? tensor(bias) : null
            );
            Gpu.AssertClose(
                expected.data<float>().ToArray(),
                Gpu.Download(gpu, Aten.DataPointer(y), rows * outputs, type),
                Gpu.Tolerance(type)
            );
            var wide = arena.Take([rows, outputs], float32);
            Ops.LinearInto(gpuX, gpuWeight, wide);
            var plain = Ops.Linear(null, tensor(x, [rows, inputs]), tensor(weight, [outputs, inputs]));
            Gpu.AssertClose(
                plain.data<float>().ToArray(),
                Gpu.Download(gpu, Aten.DataPointer(wide), rows * outputs, ScalarType.Float32),
                1e-5
            );
        }
    }

    [Theory, MemberData(nameof(Types))]
    public void Gated_products_of_few_and_many_rows_equal_the_CPUs(ScalarType type)
    {
        var gpu = Gpu.Require();
        foreach (int rows in new[] { 1, 2, 3, 9 })
        {
            using var arena = PoisonedArena(gpu);
            using var results = arena.Enter();
            using var scope = NewDisposeScope();
            const int width = 40,
                inputs = 320;
            using var xMemory = Gpu.Upload(gpu, Gpu.Normal(rows * inputs, 5), type, out float[] x);
            using var weightMemory = Gpu.Upload(gpu, Gpu.Normal(2 * width * inputs, 6, 0.1), type, out float[] weight);
            var y = Ops.GatedLinear(
                xMemory.Tensor([rows, inputs], type),
                weightMemory.Tensor([2 * width, inputs], type)
            );
            var expected = Ops.GatedLinear(tensor(x, [rows, inputs]), tensor(weight, [2 * width, inputs]));
            Gpu.AssertClose(
                expected.data<float>().ToArray(),
                Gpu.Download(gpu, Aten.DataPointer(y), rows * width, type),
                Gpu.Tolerance(type)
            );
        }
    }

    [Theory, MemberData(nameof(Types))]
    public void SwiGlu_and_chosen_rows_equal_the_CPUs(ScalarType type)
    {
        var gpu = Gpu.Require();
        using var arena = PoisonedArena(gpu);
        using var results = arena.Enter();
        using var scope = NewDisposeScope();
        const int rows = 3,
            width = 2 * 1240;
        using var memory = Gpu.Upload(gpu, Gpu.Normal(rows * width, 8, 2), type, out float[] values);
        var x = memory.Tensor([rows, width], type);
        var y = Ops.SwiGlu(x);
        Gpu.AssertClose(
            Ops.SwiGlu(tensor(values, [rows, width])).data<float>().ToArray(),
            Gpu.Download(gpu, Aten.DataPointer(y), rows * width / 2, type),
            Gpu.Tolerance(type)
        );
        using var indices = gpu.Allocate(64, "a test");
        gpu.Write<long>(indices.Pointer, [2, 0]);
        var chosen = Ops.SelectRows(null, x, indices.Tensor([2], int64));
        Assert.Equal(
            [.. values[(2 * width)..], .. values[..width]],
            Gpu.Download(gpu, Aten.DataPointer(chosen), 2 * width, type)
        );
    }

    [Fact]
    public void A_kernel_that_does_not_compile_is_named_with_the_compilers_log()
    {
        var gpu = Gpu.Require();
        var error = Assert.Throws<CudaException>(() => gpu.Kernels.Get("SwiGlu", "swiglu", "ELEMENT=no_such_type"));
        Assert.Contains("SwiGlu.cu", error.Message);
        Assert.Contains("no_such_type", error.Message);
    }

    [Fact]
    public void Memory_that_does_not_fit_says_what_for_and_what_to_change()
    {
        var gpu = Gpu.Require();
        var error = Assert.Throws<CudaOutOfMemoryException>(() => gpu.Allocate(1L << 50, "a petabyte", "buy more"));
        Assert.Contains("a petabyte", error.Message);
        Assert.Contains("free", error.Message);
        Assert.Contains("buy more", error.Message);
    }
}
