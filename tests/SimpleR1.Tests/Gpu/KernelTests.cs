using SimpleR1.Inference;
using SimpleR1.Inference.Cuda;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync;
using Xunit;
using static TorchSharp.torch;
using Reference = SimpleR1.Tensors.Cpu.PagedAttention;

namespace SimpleR1.Tests.Gpu;

/// <summary>Each kernel against its CPU reference on random inputs; results start as NaNs.</summary>
[Collection("GPU"), Trait("Category", "Gpu")]
public sealed class KernelTests
{
    public static readonly TheoryData<ScalarType> Types = [ScalarType.Float32, ScalarType.Float16, ScalarType.BFloat16];

    private static void Poison(CudaDevice gpu, long bytes = 8 << 20)
    {
        gpu.Scratch.Reserve(bytes, "");
        gpu.Scratch.Reset();
        using var all = gpu.Scratch.Take([bytes / 4], float32);
        gpu.Fill(Aten.DataPointer(all), 0xff, bytes / 4 * 4);
        gpu.Scratch.Reset();
    }

    [Theory, MemberData(nameof(Types))]
    public void Embedding_is_a_gather(ScalarType type)
    {
        var gpu = Gpu.Require();
        Poison(gpu);
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
            Poison(gpu);
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
            Poison(gpu);
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
            var wide = gpu.Scratch.Take([rows, outputs], float32);
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
            Poison(gpu);
            using var scope = NewDisposeScope();
            const int width = 40,
                inputs = 320;
            using var xMemory = Gpu.Upload(gpu, Gpu.Normal(rows * inputs, 5), type, out float[] x);
            using var weightMemory = Gpu.Upload(gpu, Gpu.Normal(2 * width * inputs, 6, 0.1), type, out float[] weight);
            var y = Ops.GatedLinear(
                null,
                xMemory.Tensor([rows, inputs], type),
                weightMemory.Tensor([2 * width, inputs], type)
            );
            var expected = Ops.GatedLinear(null, tensor(x, [rows, inputs]), tensor(weight, [2 * width, inputs]));
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
        Poison(gpu);
        using var scope = NewDisposeScope();
        const int rows = 3,
            width = 2 * 1240;
        using var memory = Gpu.Upload(gpu, Gpu.Normal(rows * width, 8, 2), type, out float[] values);
        var x = memory.Tensor([rows, width], type);
        var y = Ops.SwiGlu(null, x);
        Gpu.AssertClose(
            Ops.SwiGlu(null, tensor(values, [rows, width])).data<float>().ToArray(),
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

    /// <summary>Heads, kv heads, head size: Qwen2.5's, Qwen3's, one group of 16, one head a group, and sizes that only the plain kernel has.</summary>
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

    /// <summary>Rotation, the write into the cache, and attention, for a mix of single tokens and prompts at many lengths.</summary>
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

        Poison(gpu);
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
        Reference.Reference(rotated, keys, values, expected, segments, tables, shape);

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

    public static readonly TheoryData<double, int, double, double> Distributions = new()
    {
        { 0.7, 0, 1, 0 },
        { 1, 9, 1, 0 },
        { 1.3, 0, 0.8, 0 },
        { 1, 0, 1, 0.1 },
        { 0.9, 30, 0.9, 0.02 },
    };

    /// <summary>100,000 draws against the exact probabilities, by Pearson's chi-square at one in 100,000; each is also the CPU's draw.</summary>
    [Theory, MemberData(nameof(Distributions))]
    public unsafe void Draws_follow_the_exact_distribution(double temperature, int topK, double topP, double minP)
    {
        var gpu = Gpu.Require();
        const int vocabulary = 71;
        int rows = Gpu.Small ? 100 : 1000,
            launches = Gpu.Small ? 20 : 100;
        float[] x = Gpu.Normal(vocabulary, 21, 1.5);
        float scale = (float)(1 / temperature),
            max = x.Max(),
            threshold;
        fixed (float* logits = x)
            threshold = SimpleR1.Tensors.Cpu.SamplingFilters.Threshold(
                logits,
                vocabulary,
                max,
                scale,
                topK,
                topP,
                minP
            );
        double[] exact = [.. x.Select(v => v >= threshold ? Math.Exp((v - max) * scale) : 0)];
        double total = exact.Sum();
        using var logitMemory = Gpu.Upload(
            gpu,
            [.. Enumerable.Repeat(x, rows).SelectMany(r => r)],
            ScalarType.Float32,
            out _
        );
        CudaSlotParameters[] parameters =
        [
            .. Enumerable
                .Range(0, rows)
                .Select(i => new CudaSlotParameters
                {
                    Seed = SimpleR1.Tensors.Cpu.Sampling.StreamSeed((ulong)i, 3),
                    Scale = scale,
                    TopK = topK,
                    TopP = (float)topP,
                    MinP = (float)minP,
                    Repetition = 1,
                    PromptLength = 1,
                }),
        ];
        using var parameterMemory = gpu.Allocate(48 * rows, "a test");
        gpu.Write<CudaSlotParameters>(parameterMemory.Pointer, parameters);
        using var slots = gpu.Allocate(4 * rows, "a test");
        using var at = gpu.Allocate(4 * rows, "a test");
        using var tokens = gpu.Allocate(4 * rows * 2, "a test");
        using var results = gpu.Allocate(8 * rows, "a test");
        using var thresholds = gpu.Allocate(4 * rows, "a test");
        using var meeting = gpu.Allocate(32 * 4 * rows, "a test");
        using var arrived = gpu.AllocateZeros(4 * rows, "a test");
        gpu.Write<int>(slots.Pointer, [.. Enumerable.Range(0, rows)]);
        long[] counts = new long[vocabulary];
        for (int n = 0; n < launches; n++)
        {
            gpu.Write<int>(at.Pointer, [.. Enumerable.Repeat(n, rows)]);
            gpu.Kernels.Get("SamplingFilters", "filter_thresholds", "ELEMENT=float")
                .Launch((rows, 1), 512, 0, logitMemory, vocabulary, slots, parameterMemory, thresholds);
            gpu.Kernels.Get("Sampling", "sample", "ELEMENT=float")
                .Launch(
                    (1 + n % 2, rows),
                    512,
                    0,
                    logitMemory,
                    vocabulary,
                    slots,
                    at,
                    parameterMemory,
                    thresholds,
                    tokens,
                    0,
                    results,
                    0,
                    meeting,
                    arrived
                );
            foreach (var (row, drawn) in gpu.Read<(int Token, float LogProb)>(results.Pointer, rows).Index())
            {
                counts[drawn.Token]++;
                if (row >= 5)
                    continue;
                Assert.Equal(
                    SimpleR1
                        .Tensors.Cpu.Sampling.Reference(x, max, scale, threshold, parameters[row].Seed, (uint)n)
                        .Token,
                    drawn.Token
                );
                Assert.Equal(Math.Log(exact[drawn.Token] / total), drawn.LogProb, 1e-4);
            }
        }
        double draws = rows * (double)launches,
            statistic = 0;
        int degrees = -1;
        for (int t = 0; t < vocabulary; t++)
        {
            double expected = exact[t] / total * draws;
            if (expected == 0)
                Assert.Equal(0, counts[t]);
            else
            {
                statistic += (counts[t] - expected) * (counts[t] - expected) / expected;
                degrees++;
            }
        }
        // Wilson and Hilferty's approximation of the distribution's upper 1e-5 quantile (z = 4.265).
        double limit = degrees * Math.Pow(1 - 2.0 / (9 * degrees) + 4.265 * Math.Sqrt(2.0 / (9 * degrees)), 3);
        Assert.True(
            statistic < limit,
            $"chi-square {statistic:0.0} with {degrees} degrees of freedom, limit {limit:0.0}"
        );
    }

    [Fact]
    public void Weight_hash_is_the_hosts()
    {
        var gpu = Gpu.Require();
        byte[] bytes = new byte[8 * 10_007];
        new Random(3).NextBytes(bytes);
        using var memory = gpu.Allocate(bytes.Length, "a test");
        using var sum = gpu.AllocateZeros(8, "a test");
        gpu.Write<byte>(memory.Pointer, bytes);
        gpu.Kernels.Get("WeightHash", "weight_hash", "ELEMENT=float")
            .Launch((3, 1), 128, 0, memory, (long)bytes.Length / 8, sum);
        Assert.Equal(WeightHash.Reference(bytes), gpu.Read<ulong>(sum.Pointer, 1)[0]);
    }

    /// <summary>Bit for bit, between all types of weights: ties, subnormals, what is too large, infinities; a NaN stays one. From an address that is a multiple of 2 only.</summary>
    [Fact]
    public unsafe void Numbers_convert_as_on_the_CPU()
    {
        var gpu = Gpu.Require();
        var random = new Random(4);
        const int count = 5000;
        float[] values =
        [
            0,
            -0f,
            1,
            float.NaN,
            float.PositiveInfinity,
            float.NegativeInfinity,
            float.MaxValue,
            float.Epsilon,
            65504,
            65519.99f,
            65520,
            -65536,
            6e-8f,
            3e-8f,
            2.9e-8f,
            1e-39f,
            1.00390625f,
            1.01171875f,
            1.00048828125f,
            .. Enumerable.Range(0, 2000).Select(_ => BitConverter.UInt32BitsToSingle((uint)random.NextInt64(1L << 32))),
            .. Gpu.Normal(count, 5),
        ];
        foreach (var from in Enum.GetValues<WeightType>())
        foreach (var to in Enum.GetValues<WeightType>())
        {
            byte[] source = new byte[values.Length * NumberConversion.Size(from)],
                expected = new byte[values.Length * NumberConversion.Size(to)];
            fixed (float* f32 = values)
            fixed (
                byte* a = source,
                    b = expected
            )
            {
                NumberConversion.Convert((byte*)f32, WeightType.F32, a, from, values.Length);
                NumberConversion.Convert(a, from, b, to, values.Length);
            }
            using var memory = gpu.Allocate(source.Length + 2, "a test");
            using var result = gpu.Allocate(expected.Length, "a test");
            gpu.Write<byte>(memory.Pointer + 2, source);
            gpu.Fill(result.Pointer, 0xff, result.Bytes);
            NumberConversion.Convert(gpu, memory.Pointer + 2, from, result.Pointer, to, values.Length);
            byte[] found = gpu.Read<byte>(result.Pointer, expected.Length);
            float[] wide = Widened(expected, to),
                foundWide = Widened(found, to);
            for (int i = 0; i < values.Length; i++)
                if (float.IsNaN(wide[i]))
                    Assert.True(float.IsNaN(foundWide[i]), $"{from} to {to}, element {i}: {foundWide[i]}");
                else
                    Assert.True(
                        BitConverter.SingleToUInt32Bits(wide[i]) == BitConverter.SingleToUInt32Bits(foundWide[i]),
                        $"{from} to {to}, element {i} ({values[i]:R}): expected {wide[i]:R}, found {foundWide[i]:R}"
                    );
        }

        static float[] Widened(byte[] bytes, WeightType type)
        {
            var wide = new float[bytes.Length / NumberConversion.Size(type)];
            fixed (byte* from = bytes)
            fixed (float* to = wide)
                NumberConversion.Convert(from, type, (byte*)to, WeightType.F32, wide.Length);
            return wide;
        }
    }

    [Theory]
    [
        InlineData(ScalarType.Float32, ScalarType.BFloat16),
        InlineData(ScalarType.Float32, ScalarType.Float16),
        InlineData(ScalarType.BFloat16, ScalarType.Float32)
    ]
    public void Weight_hash_of_another_type_is_that_of_weights_held_in_it(ScalarType type, ScalarType held)
    {
        var gpu = Gpu.Require();
        using var host = TinyModels.Random(TinyModels.Config());
        using var weights = host.CopyTo(gpu, type);
        using var exact = new FlatWeights(host.Layout, ScalarType.Float32, CPU); // what the weights are after rounding to their type
        exact.Flat.copy_(host.Flat.to_type(type).to_type(ScalarType.Float32));
        Assert.Equal(WeightHash.Of(exact, held), WeightHash.Of(weights, held));
        Assert.NotEqual(WeightHash.Of(weights), WeightHash.Of(weights, held));
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
