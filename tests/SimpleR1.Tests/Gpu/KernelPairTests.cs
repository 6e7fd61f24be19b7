using System.Reflection;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cpu;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Operands;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

/// <summary>
/// Every method of <see cref="IKernels"/> on the CPU and on a GPU: the same f32 results.
/// </summary>
[Collection("GPU"), Trait("Category", "Gpu")]
public sealed class KernelPairTests
{
    private const int Rows = 6,
        Width = 32,
        Outputs = 32;
    private static readonly AttentionShape Shape = new(4, 2, 8);
    private static readonly PackedSequences Sequences = new([new(0, 2), new(2, 1, 0), new(3, 2, 0), new(5, 1)], Shape);

    /// <summary>A method by its name, run on inputs that are the same on every device; what it writes.</summary>
    private static readonly Dictionary<string, Func<Inputs, Tensor[]>> operations = new()
    {
        [nameof(IKernels.Copy)] = i => i.Write(Rows * Width, y => i.Kernels.Copy(i.Matrix(1), y)),
        [nameof(IKernels.Add)] = i => i.Change(i.Matrix(2), sum => i.Kernels.Add(i.Matrix(1), sum)),
        [nameof(IKernels.Embedding)] = i => i.Write(4 * Width, y => i.Kernels.Embedding(i.Matrix(1), i.Ids(), y)),
        [nameof(IKernels.EmbeddingGradient)] = i =>
            i.Change(i.Matrix(1), dTable => i.Kernels.EmbeddingGradient(i.Ids(), i.Matrix(2, 4), dTable)),
        [nameof(IKernels.Linear)] = i =>
            i.Write(Rows * Outputs, y => i.Kernels.Linear(i.Matrix(1), i.Weight(), i.Vector(3, Outputs), y)),
        [nameof(IKernels.LinearInputGradient)] = i =>
            i.Write(Rows * Width, dx => i.Kernels.LinearInputGradient(i.Matrix(1, Rows, Outputs), i.Weight(), dx)),
        [nameof(IKernels.LinearWeightGradient)] = i =>
            i.Change(
                i.Weight(),
                dWeight => i.Kernels.LinearWeightGradient(i.Matrix(1, Rows, Outputs), i.Matrix(2), dWeight)
            ),
        [nameof(IKernels.LinearBiasGradient)] = i =>
            i.Change(i.Vector(2, Width), dBias => i.Kernels.LinearBiasGradient(i.Matrix(1), dBias)),
        [nameof(IKernels.RmsNorm)] = i => i.Write(Rows * Width, y => i.Kernels.RmsNorm(i.Matrix(1), i.Norm(), y)),
        [nameof(IKernels.AddRmsNorm)] = i =>
        {
            var sum = i.Empty(Rows, Width);
            Tensor[] normed = i.Write(
                Rows * Width,
                y => i.Kernels.AddRmsNorm(i.Matrix(1), i.Matrix(2), i.Norm(), sum, y)
            );
            return [sum, .. normed];
        },
        [nameof(IKernels.RmsNormGradient)] = i =>
        {
            var dWeight = i.Vector(4, Width);
            var rounded = i.Empty(Rows, Width);
            Tensor[] dx = i.Change(
                i.Matrix(3),
                dx => i.Kernels.RmsNormGradient(i.Matrix(1), i.Norm(), i.Matrix(2), new(dx, rounded, dWeight))
            );
            return [dWeight, rounded, .. dx];
        },
        [nameof(IKernels.QueryKeyNorm)] = i =>
            i.Write(Rows * Shape.QkvRow, y => i.Kernels.QueryKeyNorm(i.Qkv(1), i.HeadNorms(), y)),
        [nameof(IKernels.QueryKeyNormGradient)] = i =>
        {
            var dWeights = (Query: i.Vector(5, Shape.HeadDimension), Key: i.Vector(6, Shape.HeadDimension));
            Tensor[] dQkv = i.Write(
                Rows * Shape.QkvRow,
                y => i.Kernels.QueryKeyNormGradient(i.Qkv(1), i.HeadNorms(), i.Qkv(2), y, dWeights)
            );
            return [dWeights.Query, dWeights.Key, .. dQkv];
        },
        [nameof(IKernels.Rotary)] = i => i.Change(i.Qkv(1), qkv => i.Kernels.Rotary(qkv, i.Angles(), Shape)),
        [nameof(IKernels.RotaryGradient)] = i =>
            i.Change(i.Qkv(1), dQkv => i.Kernels.RotaryGradient(dQkv, i.Angles(), Shape)),
        [nameof(IKernels.PackedAttention)] = i =>
        {
            var result = new AttentionResult(i.Empty(Rows, Shape.OutputRow), i.Empty(Rows, Shape.Heads));
            i.Kernels.PackedAttention(i.Qkv(1), Sequences, result);
            return [result.Output, result.LogSum!];
        },
        [nameof(IKernels.PackedAttentionGradient)] = i =>
        {
            var result = new AttentionResult(i.Empty(Rows, Shape.OutputRow), i.Empty(Rows, Shape.Heads));
            i.Kernels.PackedAttention(i.Qkv(1), Sequences, result);
            var dQkv = i.Empty(Rows, Shape.QkvRow);
            i.Kernels.PackedAttentionGradient(i.Qkv(1), Sequences, result, i.Matrix(2, Rows, Shape.OutputRow), dQkv);
            return [dQkv];
        },
        [nameof(IKernels.SwiGlu)] = i => i.Write(Rows * Width / 2, y => i.Kernels.SwiGlu(i.Matrix(1), y)),
        [nameof(IKernels.SwiGluGradient)] = i =>
        {
            var y = i.Empty(Rows, Width / 2);
            Tensor[] dGateUp = i.Change(
                i.Matrix(1),
                gateUp => i.Kernels.SwiGluGradient(gateUp, i.Matrix(2, Rows, Width / 2), gateUp, y)
            );
            return [y, .. dGateUp];
        },
        [nameof(IKernels.GatedLinear)] = i =>
            i.Write(Rows * Outputs / 2, y => i.Kernels.GatedLinear(i.Matrix(1), i.Weight(), y)),
        [nameof(IKernels.SelectRows)] = i => i.Write(4 * Width, y => i.Kernels.SelectRows(i.Matrix(1), i.Ids(), y)),
        [nameof(IKernels.SelectRowsGradient)] = i =>
            i.Change(i.Matrix(1), dx => i.Kernels.SelectRowsGradient(i.Ids(), i.Matrix(2, 4), dx)),
        [nameof(IKernels.LogProbs)] = i =>
        {
            var result = new TokenDistribution(i.Empty(4), i.Empty(4), i.Empty(4));
            i.Kernels.LogProbs(i.Matrix(1, 4), new(i.Ids(), 0.7), result);
            return [result.LogProbs, result.LogSum, result.Entropy];
        },
        [nameof(IKernels.LogProbsGradient)] = i =>
            [i.Kernels.LogProbsGradient(i.Matrix(1, 4), new(i.Ids(), 0.7), i.Vector(2, 4), i.Vector(3, 4), float32)],
        [nameof(IKernels.AdamW)] = i =>
        {
            var buffers = new AdamWBuffers(i.Vector(1, 64), null, i.Vector(2, 64), i.Vector(3, 64), i.Ones(64));
            var settings = new AdamWSettings
            {
                Step = 3,
                LearningRate = 0.01,
                Beta1 = 0.9,
                Beta2 = 0.99,
                Epsilon = 1e-8,
                WeightDecay = 0.1,
                GradientScale = 0.5,
            };
            i.Kernels.AdamW(buffers, 8, 40, settings);
            return [buffers.Weight, buffers.Mean, buffers.Variance];
        },
        [nameof(IKernels.SumOfSquares)] = i => [i.Number((float)i.Kernels.SumOfSquares(i.Vector(1, 64)))],
    };

    public static readonly TheoryData<string> Names = [.. operations.Keys];

    [Fact]
    public void Every_operation_is_compared() =>
        Assert.Equal(
            typeof(IKernels)
                .GetMethods(BindingFlags.Public | BindingFlags.Instance)
                .Select(m => m.Name)
                .Except([
                    nameof(IKernels.Check),
                    nameof(IKernels.Activations),
                    nameof(IKernels.Allocate),
                    nameof(IKernels.AllocateZeros),
                ])
                .Order(),
            operations.Keys.Order()
        );

    [Theory, MemberData(nameof(Names))]
    public void Operation_has_the_same_results_on_both_devices(string name)
    {
        var gpu = Gpu.Require();
        using var scope = NewDisposeScope();
        using var arena = new Arena(gpu);
        arena.Reserve(1 << 20, "");
        using var results = arena.Enter();
        float[][] expected =
        [
            .. operations[name](new(CpuKernels.Instance, null)).Select(t => t.data<float>().ToArray()),
        ];
        Tensor[] found = operations[name](new(gpu.Operations, gpu));
        Assert.Equal(expected.Length, found.Length);
        foreach (var (values, tensor) in expected.Zip(found))
            Gpu.AssertClose(
                values,
                Gpu.Download(gpu, Aten.DataPointer(tensor), values.Length, ScalarType.Float32),
                1e-5
            );
    }

    /// <summary>Random tensors on one device, the same for the same seed.</summary>
    private sealed class Inputs(IKernels kernels, CudaDevice? gpu)
    {
        public IKernels Kernels => kernels;

        public Tensor Matrix(int seed, int rows = Rows, int width = Width) => Random(seed, rows, width);

        public Tensor Weight() => Random(11, Outputs, Width);

        public Tensor Vector(int seed, int length) => Random(seed, length);

        public Tensor Qkv(int seed) => Random(seed, Rows, Shape.QkvRow);

        public NormWeight Norm() => new(Vector(12, Width), 1e-5);

        public QueryKeyNormWeights HeadNorms() =>
            new(Vector(13, Shape.HeadDimension), Vector(14, Shape.HeadDimension), 1e-5, Shape);

        public RotaryAngles Angles() =>
            new(
                Longs([0, 1, 0, 1, 2, 3]),
                Random(15, 5, Shape.HeadDimension / 2),
                Random(16, 5, Shape.HeadDimension / 2)
            );

        public Tensor Ids() => Longs([5, 0, 3, 5]);

        public Tensor Number(float value) => Put([value], [1]);

        public Tensor Ones(int length) => Put([.. Enumerable.Repeat(1f, length)], [length]);

        public Tensor Empty(params long[] shape) =>
            Put([.. Enumerable.Repeat(float.NaN, (int)shape.Aggregate((a, b) => a * b))], shape);

        /// <summary>A result that starts as NaNs; its shape is given by its size and Rows or the ids.</summary>
        public Tensor[] Write(int size, Action<Tensor> operation)
        {
            int rows = size % Rows == 0 && size != 4 * Width ? Rows : 4;
            return Change(Empty(rows, size / rows), operation);
        }

        public Tensor[] Change(Tensor result, Action<Tensor> operation)
        {
            operation(result);
            return [result];
        }

        private Tensor Random(int seed, params long[] shape) =>
            Put(Gpu.Normal((int)shape.Aggregate((a, b) => a * b), seed), shape);

        private Tensor Put(float[] values, long[] shape)
        {
            if (gpu is null)
                return tensor(values, shape);
            var result = kernels.Allocate(shape, float32);
            gpu.Write<float>(Aten.DataPointer(result), values);
            return result;
        }

        private Tensor Longs(long[] values)
        {
            if (gpu is null)
                return tensor(values);
            var result = kernels.Allocate([values.Length], int64);
            gpu.Write<long>(Aten.DataPointer(result), values);
            return result;
        }
    }
}
