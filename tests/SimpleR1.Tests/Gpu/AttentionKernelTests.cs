using SimpleR1.Inference;
using SimpleR1.Inference.Cuda;
using SimpleR1.Models;
using SimpleR1.Tensors;
using Xunit;
using static TorchSharp.torch;
using Reference = SimpleR1.Tensors.Cpu.Attention.PagedAttention;

namespace SimpleR1.Tests.Gpu;

/// <summary>Rotation and attention over the paged cache against the CPU reference.</summary>
[Collection("GPU"), Trait("Category", "Gpu")]
public sealed class AttentionKernelTests
{
    /// <summary>
    /// Heads, kv heads, head size: Qwen2.5's, Qwen3's, one group of 16, one head a group, and sizes that only the
    /// plain kernel has.
    /// </summary>
    public static readonly TheoryData<int, int, int, ScalarType> Attentions = new()
    {
        { 14, 2, 64, ScalarType.BFloat16 },
        { 16, 8, 128, ScalarType.BFloat16 },
        { 16, 1, 64, ScalarType.BFloat16 },
        { 2, 2, 64, ScalarType.Float16 },
        { 14, 2, 64, ScalarType.Float16 },
        { 14, 2, 64, ScalarType.Float32 },
        { 4, 2, 16, ScalarType.Float32 },
        { 7, 1, 8, ScalarType.BFloat16 },
        { 12, 4, 96, ScalarType.Float32 },
    };

    /// <summary>
    /// Rotation, the write into the cache, and attention, for a mix of single tokens and prompts at many lengths.
    /// </summary>
    [Theory, MemberData(nameof(Attentions))]
    public void Attention_over_the_paged_cache_equals_the_CPUs(int heads, int kvHeads, int dimension, ScalarType type)
    {
        var gpu = Gpu.Require();
        const int block = 16,
            blocks = 160;
        var config = TinyModels.Config() with
        {
            Heads = heads,
            KeyValueHeads = kvHeads,
            HeadDimension = dimension,
            Layers = 1,
            HiddenSize = 64,
        };
        var shape = new Reference.Shape(heads, kvHeads, dimension, block);
        var random = new Random(heads * 1000 + dimension);
        (int Past, int Count)[] sequences =
        [
            (0, 1),
            (15, 1),
            (16, 1),
            (300, 1),
            (517, 1),
            (31, 1),
            (40, 1),
            (0, 70),
            (33, 19),
            (64, 2),
        ];
        int tokens = sequences.Sum(s => s.Count),
            slotCount = sequences.Length,
            stride = 40;
        var free = new Stack<int>(Enumerable.Range(0, blocks).OrderBy(_ => random.Next()));
        int[] tables = new int[slotCount * stride];
        for (int s = 0; s < slotCount; s++)
        for (int i = 0; i * block < sequences[s].Past + sequences[s].Count; i++)
            tables[s * stride + i] = free.Pop();

        using var arena = KernelTests.PoisonedArena(gpu);
        using var results = arena.Enter();
        using var scope = NewDisposeScope();
        int cacheLength = blocks * kvHeads * block * dimension;
        var layout = new KvLayout(config, type, block) { Blocks = blocks };
        using var cache = gpu.Allocate(2L * cacheLength * type.ElementSize(), "a test");
        using var attention = new CudaPagedAttention(gpu, layout, cache, 16);
        // What is in the cache: keys and values of the past; everything else NaN, as in memory that was never written.
        float[] past = Gpu.Normal(2 * cacheLength, 9);
        for (int b = 0; b < blocks; b++)
        for (int i = 0; i < block; i++)
        {
            int owner = Array.FindIndex(
                sequences,
                q =>
                    true
                    && Enumerable
                        .Range(0, (q.Past + block - 1) / block)
                        .Any(n => tables[Array.IndexOf(sequences, q) * stride + n] == b && n * block + i < q.Past)
            );
            if (owner >= 0)
                continue;
            foreach (int half in new[] { 0, cacheLength })
                for (int h = 0; h < kvHeads; h++)
                    Array.Fill(past, float.NaN, half + ((b * kvHeads + h) * block + i) * dimension, dimension);
        }
        using (var filled = Gpu.Upload(gpu, past, type, out past))
            gpu.CopyWithin(filled.Pointer, cache.Pointer, 2L * cacheLength * type.ElementSize());

        using var qkvMemory = Gpu.Upload(gpu, Gpu.Normal(tokens * shape.QkvRow, 10), type, out float[] qkv);
        using var normMemory = Gpu.Upload(
            gpu,
            [.. Gpu.Normal(2 * dimension, 11, 0.2).Select(v => v + 1)],
            type,
            out float[] norms
        );
        float[] angles = [.. Enumerable.Range(0, 1024 * dimension / 2).Select(_ => (float)(random.NextDouble() * 6))];
        float[] cos = [.. angles.Select(MathF.Cos)],
            sin = [.. angles.Select(MathF.Sin)];
        using var cosMemory = Gpu.Upload(gpu, cos, ScalarType.Float32, out _);
        using var sinMemory = Gpu.Upload(gpu, sin, ScalarType.Float32, out _);
        var rows = sequences
            .SelectMany((q, s) => Enumerable.Range(q.Past, q.Count).Select(p => (Slot: s, Position: p)))
            .ToArray();
        int decoding = sequences.Count(q => q.Count == 1),
            perItem = attention.TokensPerItem;
        var items = new List<int>();
        for (int s = decoding, first = decoding; perItem > 0 && s < slotCount; first += sequences[s++].Count)
        for (int i = 0; i < sequences[s].Count; i += perItem)
            items.AddRange([first + i, Math.Min(perItem, sequences[s].Count - i), sequences[s].Past + i, s]);
        int[] at = [.. rows[..decoding].Select(r => r.Position)],
            plan = new int[4],
            before = new int[decoding + 1];
        attention.PlanDecode(at, plan, before);
        using var numbers = gpu.Allocate(1 << 16, "a test");
        nint Put(int offset, int[] values)
        {
            gpu.Write<int>(numbers.Pointer + 4 * offset, values);
            return numbers.Pointer + 4 * offset;
        }
        nint slots = Put(0, [.. rows.Select(r => r.Slot)]),
            atAddress = Put(1024, [.. rows.Select(r => r.Position)]),
            planAddress = Put(2048, plan),
            beforeAddress = Put(2064, before),
            itemAddress = Put(3072, [.. items]);
        nint tableAddress = Put(4096, tables),
            tokenTable = Put(8192, new int[4096]);
        using var ids = gpu.Allocate(8 * tokens, "a test");
        using var positions = gpu.Allocate(8 * tokens, "a test");
        attention.Current = new()
        {
            Slots = slots,
            BlockTables = new(tableAddress, stride),
            Plan = planAddress,
            TilesBefore = beforeAddress,
            DecodeSlots = slots,
            DecodePositions = atAddress,
            Decodes = true,
            Items = itemAddress,
            ItemCount = items.Count / 4,
        };
        attention.Prepare(atAddress, tokens, new(tokenTable, 1), ids.Pointer, positions.Pointer);
        Assert.Equal(rows.Select(r => (long)r.Position), gpu.Read<long>(positions.Pointer, tokens));
        var rotation = new QueryKeyRotation
        {
            Config = config,
            Positions = positions.Tensor([tokens], int64),
            Cosine = cosMemory.Tensor([1024, dimension / 2], float32),
            Sine = sinMemory.Tensor([1024, dimension / 2], float32),
            QueryNorm = normMemory.Tensor([dimension], type),
            KeyNorm = normMemory.Tensor([dimension], type, dimension * type.ElementSize()),
        };

        // The reference: rotated on the CPU, rounded as the device rounds, in the CPU's cache layout.
        var cpuRotation = new QueryKeyRotation
        {
            Config = config,
            Positions = tensor(rows.Select(r => (long)r.Position).ToArray()),
            Cosine = tensor(cos, [1024, dimension / 2]),
            Sine = tensor(sin, [1024, dimension / 2]),
            QueryNorm = tensor(norms[..dimension]),
            KeyNorm = tensor(norms[dimension..]),
        };
        float[] rotated =
        [
            .. cpuRotation
                .Apply(null, tensor(qkv, [tokens, shape.QkvRow]))
                .data<float>()
                .ToArray()
                .Select(v => Gpu.Round(v, type)),
        ];
        float[] keys = new float[cacheLength],
            values = past[cacheLength..],
            expected = new float[tokens * shape.OutputRow];
        for (int b = 0; b < blocks * kvHeads; b++)
        for (int i = 0; i < block; i++)
        for (int d = 0; d < dimension; d++)
            keys[b * dimension * block + d * block + i] = past[(b * block + i) * dimension + d];
        var segments = sequences
            .Select((q, s) => new Reference.Segment(sequences[..s].Sum(o => o.Count), q.Count, q.Past, s * stride))
            .ToArray();
        Reference.Reference(rotated, keys, values, expected, new(segments, tables, shape));

        for (int repeat = 0; repeat < 2; repeat++) // the second launch finds the counters of the first
        {
            using var copy = Gpu.Upload(gpu, qkv, type, out _);
            var output = attention.Attend(null, 0, copy.Tensor([tokens, shape.QkvRow], type), rotation);
            Gpu.AssertClose(
                expected,
                Gpu.Download(gpu, Aten.DataPointer(output), expected.Length, type),
                2 * Gpu.Tolerance(type)
            );
        }
    }
}
