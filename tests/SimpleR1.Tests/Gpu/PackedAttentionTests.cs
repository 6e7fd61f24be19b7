using SimpleR1.Tensors;
using SimpleR1.Tensors.Cpu;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Operands;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

/// <summary>Attention of packed segments on the matrix unit, forward and backward, against the CPU reference.</summary>
[Collection("GPU"), Trait("Category", "Gpu")]
public sealed class PackedAttentionTests
{
    /// <summary>
    /// Tokens of each family: the prefix's, then those of the segments that see it. A prefix and a segment end before,
    /// at and after the border of a tile.
    /// </summary>
    private static readonly Dictionary<string, int[][]> batches = new()
    {
        ["short prefixes"] =
        [
            [1, 1, 130],
            [63],
            [63, 64, 2],
            [64, 1, 70],
        ],
        ["long prefixes"] =
        [
            [65, 63, 1],
            [64],
            [100, 27, 130],
        ],
        ["parts"] =
        [
            [70, 130, 130, 1],
            [9],
            [3, 60],
        ],
    };

    public static readonly TheoryData<string, int, int, int, ScalarType> Cases = new()
    {
        { "short prefixes", 2, 2, 64, ScalarType.BFloat16 },
        { "short prefixes", 14, 2, 64, ScalarType.BFloat16 },
        { "long prefixes", 14, 2, 64, ScalarType.BFloat16 },
        { "parts", 14, 2, 64, ScalarType.BFloat16 },
        { "parts", 7, 1, 128, ScalarType.Float16 },
    };

    [Theory, MemberData(nameof(Cases))]
    public void Result_and_gradient_equal_the_CPUs(string batch, int heads, int kvHeads, int dimension, ScalarType type)
    {
        var gpu = Gpu.Require();
        var sequences = new PackedSequences([.. Segments(batches[batch])], new(heads, kvHeads, dimension));
        var shape = sequences.Shape;
        int tokens = sequences.Tokens;
        float[] qkv = Rounded(tokens * shape.QkvRow, 21, type),
            dOutput = Rounded(tokens * shape.OutputRow, 22, type);
        using var scope = NewDisposeScope();
        var expected = OnCpu(sequences, qkv, dOutput);
        var found = OnGpu(gpu, sequences, qkv, dOutput, type);

        double tolerance = Gpu.Tolerance(type);
        Gpu.AssertClose(expected.Output, found.Output, tolerance);
        Gpu.AssertClose(expected.LogSum, found.LogSum, tolerance);
        foreach (var segment in sequences.Segments) // one of few tokens would be lost in the norm of all
        {
            var rows = (segment.First * shape.QkvRow)..(segment.End * shape.QkvRow);
            Gpu.AssertClose(expected.DQkv[rows], found.DQkv[rows], 2 * tolerance);
        }
        if (batch == "parts")
            Assert.Equal(found.DQkv, OnGpu(gpu, sequences, qkv, dOutput, type).DQkv); // the same bits
    }

    private static IEnumerable<Segment> Segments(int[][] families)
    {
        int first = 0,
            count = 0;
        foreach (int[] family in families)
        {
            int root = count;
            foreach (int tokens in family)
            {
                yield return new(first, tokens, count == root ? -1 : root);
                first += tokens;
                count++;
            }
        }
    }

    private static float[] Rounded(int count, int seed, ScalarType type) =>
        [.. Gpu.Normal(count, seed).Select(x => Gpu.Round(x, type))];

    private static (float[] Output, float[] LogSum, float[] DQkv) OnCpu(
        PackedSequences sequences,
        float[] qkv,
        float[] dOutput
    )
    {
        var shape = sequences.Shape;
        long tokens = sequences.Tokens;
        var input = tensor(qkv, [tokens, shape.QkvRow]);
        var result = new AttentionResult(zeros(tokens, shape.OutputRow), zeros(tokens, shape.Heads));
        CpuKernels.Instance.PackedAttention(input, sequences, result);
        var dQkv = zeros(tokens, shape.QkvRow);
        var upstream = tensor(dOutput, [tokens, shape.OutputRow]);
        CpuKernels.Instance.PackedAttentionGradient(input, sequences, result, upstream, dQkv);
        return (Numbers(result.Output), Numbers(result.LogSum!), Numbers(dQkv));
    }

    private static float[] Numbers(Tensor tensor) => tensor.data<float>().ToArray();

    /// <summary>In memory that holds NaNs before.</summary>
    private static (float[] Output, float[] LogSum, float[] DQkv) OnGpu(
        CudaDevice gpu,
        PackedSequences sequences,
        float[] qkv,
        float[] dOutput,
        ScalarType type
    )
    {
        var shape = sequences.Shape;
        int tokens = sequences.Tokens;
        using var arena = KernelTests.PoisonedArena(gpu);
        using var results = arena.Enter();
        using var scope = NewDisposeScope();
        using var input = Gpu.Upload(gpu, qkv, type, out _);
        using var upstream = Gpu.Upload(gpu, dOutput, type, out _);
        var kernels = gpu.Operations;
        var rows = input.Tensor([tokens, shape.QkvRow], type);
        var output = kernels.Allocate([tokens, shape.OutputRow], type);
        var logSum = kernels.Allocate([tokens, shape.Heads], float32);
        var dQkv = kernels.Allocate([tokens, shape.QkvRow], type);
        var slope = upstream.Tensor([tokens, shape.OutputRow], type);
        kernels.PackedAttention(rows, sequences, new(output, logSum));
        kernels.PackedAttentionGradient(rows, sequences, new(output, logSum), slope, dQkv);
        return (Download(output, type), Download(logSum, float32), Download(dQkv, type));

        float[] Download(Tensor tensor, ScalarType of) =>
            Gpu.Download(gpu, Aten.DataPointer(tensor), (int)tensor.numel(), of);
    }
}
