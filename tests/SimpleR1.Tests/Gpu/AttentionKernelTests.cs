using SimpleR1.Inference;
using SimpleR1.Inference.Cuda;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
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

    private const int Block = 16,
        Blocks = 160,
        TableStride = 40;

    /// <summary>
    /// A mix of single tokens, which come first, and prompts, at many lengths.
    /// </summary>
    private static readonly (int Past, int Count)[] Sequences =
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

    private static readonly int Decoding = Sequences.Count(q => q.Count == 1);

    /// <summary>The step's tokens.</summary>
    private static readonly (int Slot, int Position)[] Rows =
    [
        .. Sequences.SelectMany((q, s) => Enumerable.Range(q.Past, q.Count).Select(p => (s, p))),
    ];

    private sealed record Sizes(int Heads, int KeyValueHeads, int Dimension, ScalarType Type)
    {
        public ModelConfig Config =>
            TinyModels.Config() with
            {
                Heads = Heads,
                KeyValueHeads = KeyValueHeads,
                HeadDimension = Dimension,
                Layers = 1,
                HiddenSize = 64,
            };
        public KvLayout Layout => new(Config, Type, Block) { Blocks = Blocks };
        public Reference.Shape Shape => new(Heads, KeyValueHeads, Dimension, Block);

        /// <summary>Numbers of all keys, or of all values.</summary>
        public int CacheLength => Blocks * KeyValueHeads * Block * Dimension;
        public long CacheBytes => 2L * CacheLength * Type.ElementSize();
    }

    /// <summary>
    /// What rotation reads, on the device and on the host: random norms, random angles of 1024 positions, and the
    /// tokens' positions, which <see cref="PrepareStep"/> writes to the device.
    /// </summary>
    private sealed class RotationInputs : IDisposable
    {
        private readonly DeviceMemory norm;
        private readonly DeviceMemory cosine;
        private readonly DeviceMemory sine;

        public RotationInputs(CudaDevice gpu, Sizes sizes, Random random)
        {
            int dimension = sizes.Dimension;
            float[] weights = [.. Gpu.Normal(2 * dimension, 11, 0.2).Select(v => v + 1)];
            norm = Gpu.Upload(gpu, weights, sizes.Type, out float[] norms);
            float[] angles =
            [
                .. Enumerable.Range(0, 1024 * dimension / 2).Select(_ => (float)(random.NextDouble() * 6)),
            ];
            float[] cos = [.. angles.Select(MathF.Cos)],
                sin = [.. angles.Select(MathF.Sin)];
            cosine = Gpu.Upload(gpu, cos, ScalarType.Float32, out _);
            sine = Gpu.Upload(gpu, sin, ScalarType.Float32, out _);
            Positions = gpu.Allocate(8 * Rows.Length, "a test");
            OnGpu = new()
            {
                Config = sizes.Config,
                Positions = Positions.Tensor([Rows.Length], int64),
                Cosine = cosine.Tensor([1024, dimension / 2], float32),
                Sine = sine.Tensor([1024, dimension / 2], float32),
                QueryNorm = norm.Tensor([dimension], sizes.Type),
                KeyNorm = norm.Tensor([dimension], sizes.Type, dimension * sizes.Type.ElementSize()),
            };
            OnCpu = new()
            {
                Config = sizes.Config,
                Positions = tensor(Rows.Select(r => (long)r.Position).ToArray()),
                Cosine = tensor(cos, [1024, dimension / 2]),
                Sine = tensor(sin, [1024, dimension / 2]),
                QueryNorm = tensor(norms[..dimension]),
                KeyNorm = tensor(norms[dimension..]),
            };
        }

        public DeviceMemory Positions { get; }
        public QueryKeyRotation OnGpu { get; }
        public QueryKeyRotation OnCpu { get; }

        public void Dispose()
        {
            foreach (var memory in new[] { norm, cosine, sine, Positions })
                memory.Dispose();
        }
    }

    /// <summary>Rotation, the write into the cache, and attention.</summary>
    [Theory, MemberData(nameof(Attentions))]
    public void Attention_over_the_paged_cache_equals_the_CPUs(int heads, int kvHeads, int dimension, ScalarType type)
    {
        var gpu = Gpu.Require();
        var sizes = new Sizes(heads, kvHeads, dimension, type);
        var random = new Random(heads * 1000 + dimension);
        int[] tables = RandomBlockTables(random);
        using var arena = KernelTests.PoisonedArena(gpu);
        using var results = arena.Enter();
        using var scope = NewDisposeScope();
        using var cache = gpu.Allocate(sizes.CacheBytes, "a test");
        using var attention = new CudaPagedAttention(gpu, sizes.Layout, cache, 16);
        float[] past = FillCache(cache, sizes, tables);
        int qkvRow = sizes.Shape.QkvRow;
        float[] qkv = [.. Gpu.Normal(Rows.Length * qkvRow, 10).Select(v => Gpu.Round(v, type))];
        using var rotation = new RotationInputs(gpu, sizes, random);
        using var numbers = gpu.Allocate(1 << 16, "a test");
        PrepareStep(attention, tables, numbers, rotation.Positions);

        float[] rotated = RotateOnCpu(sizes, qkv, rotation.OnCpu);
        float[] expected = AttendOnCpu(sizes, tables, past, rotated);
        for (int repeat = 0; repeat < 2; repeat++) // the second launch finds the counters of the first
        {
            using var copy = Gpu.Upload(gpu, qkv, type, out _);
            var rows = copy.Tensor([Rows.Length, qkvRow], type);
            var output = attention.Attend(null, 0, rows, rotation.OnGpu);
            Gpu.AssertClose(
                expected,
                Gpu.Download(gpu, Aten.DataPointer(output), expected.Length, type),
                2 * Gpu.Tolerance(type)
            );
            if (attention.TokensPerItem > 0 && repeat == 1)
                AssertPaddingBecomesZeros(attention, rows, sizes);
        }
    }

    /// <summary>In a step in which all decode, the rows after those of the plan pad it.</summary>
    private static void AssertPaddingBecomesZeros(CudaPagedAttention attention, Tensor rows, Sizes sizes)
    {
        var gpu = Gpu.Require();
        int width = sizes.Shape.OutputRow;
        using var output = gpu.Allocate((long)Rows.Length * width * sizes.Type.ElementSize(), "a test");
        gpu.Fill(output.Pointer, 0xff, output.Bytes); // NaN
        attention.Current = attention.Current with { ItemCount = 0 };
        attention.LaunchDecode(0, rows, output.Tensor([Rows.Length, width], sizes.Type));

        float[] all = Gpu.Download(gpu, output.Pointer, Rows.Length * width, sizes.Type);
        Assert.DoesNotContain(all[..(Decoding * width)], float.IsNaN);
        Assert.All(all[(Decoding * width)..], x => Assert.Equal(0, x));
    }

    private static int[] RandomBlockTables(Random random)
    {
        var free = new Stack<int>(Enumerable.Range(0, Blocks).OrderBy(_ => random.Next()));
        int[] tables = new int[Sequences.Length * TableStride];
        for (int s = 0; s < Sequences.Length; s++)
        for (int i = 0; i * Block < Sequences[s].Past + Sequences[s].Count; i++)
            tables[s * TableStride + i] = free.Pop();
        return tables;
    }

    /// <summary>
    /// Keys and values of the past, all else NaN, as in memory that was never written. Returns what is in the cache.
    /// </summary>
    private static float[] FillCache(DeviceMemory cache, Sizes sizes, int[] tables)
    {
        var (length, dimension) = (sizes.CacheLength, sizes.Dimension);
        var written = new HashSet<(int Block, int Place)>(
            Sequences.SelectMany(
                (q, s) => Enumerable.Range(0, q.Past).Select(p => (tables[s * TableStride + p / Block], p % Block))
            )
        );
        float[] past = Gpu.Normal(2 * length, 9);
        for (int b = 0; b < Blocks; b++)
        for (int i = 0; i < Block; i++)
        {
            if (written.Contains((b, i)))
                continue;
            foreach (int half in new[] { 0, length })
                for (int h = 0; h < sizes.KeyValueHeads; h++)
                    Array.Fill(
                        past,
                        float.NaN,
                        half + ((b * sizes.KeyValueHeads + h) * Block + i) * dimension,
                        dimension
                    );
        }
        using var filled = Gpu.Upload(cache.Device, past, sizes.Type, out past);
        cache.Device.CopyWithin(filled.Pointer, cache.Pointer, sizes.CacheBytes);
        return past;
    }

    /// <summary>
    /// Writes the step's plan to <paramref name="numbers"/>, which attention reads, and has the device write the
    /// tokens' positions.
    /// </summary>
    private static void PrepareStep(
        CudaPagedAttention attention,
        int[] tables,
        DeviceMemory numbers,
        DeviceMemory positions
    )
    {
        var gpu = numbers.Device;
        nint Put(int offset, int[] values)
        {
            gpu.Write<int>(numbers.Pointer + 4 * offset, values);
            return numbers.Pointer + 4 * offset;
        }
        int[] at = [.. Rows.Select(r => r.Position)],
            items = PrefillItems(attention.TokensPerItem),
            plan = new int[4],
            before = new int[Decoding + 1];
        attention.PlanDecode(at[..Decoding], plan, before);
        nint slots = Put(0, [.. Rows.Select(r => r.Slot)]),
            atAddress = Put(1024, at),
            tokenTable = Put(8192, new int[4096]);
        attention.Current = new()
        {
            Slots = slots,
            BlockTables = new(Put(4096, tables), TableStride),
            Plan = Put(2048, plan),
            TilesBefore = Put(2064, before),
            DecodeSlots = slots,
            DecodePositions = atAddress,
            Decodes = true,
            Items = Put(3072, items),
            ItemCount = items.Length / 4,
        };
        using var ids = gpu.Allocate(8 * Rows.Length, "a test");
        attention.Prepare(atAddress, Rows.Length, new(tokenTable, 1), ids.Pointer, positions.Pointer);
        Assert.Equal(Rows.Select(r => (long)r.Position), gpu.Read<long>(positions.Pointer, Rows.Length));
    }

    /// <summary>Four numbers for each piece of a prompt; none if the plain kernel serves all.</summary>
    private static int[] PrefillItems(int perItem)
    {
        var items = new List<int>();
        for (int s = Decoding, first = Decoding; perItem > 0 && s < Sequences.Length; first += Sequences[s++].Count)
        for (int i = 0; i < Sequences[s].Count; i += perItem)
            items.AddRange([first + i, Math.Min(perItem, Sequences[s].Count - i), Sequences[s].Past + i, s]);
        return [.. items];
    }

    /// <summary>Rounded as the device rounds.</summary>
    private static float[] RotateOnCpu(Sizes sizes, float[] qkv, QueryKeyRotation rotation) =>
        [
            .. rotation
                .Apply(null, tensor(qkv, [Rows.Length, sizes.Shape.QkvRow]))
                .data<float>()
                .ToArray()
                .Select(v => Gpu.Round(v, sizes.Type)),
        ];

    /// <summary>The reference, with the keys of the past in the CPU's cache layout.</summary>
    private static float[] AttendOnCpu(Sizes sizes, int[] tables, float[] past, float[] rotated)
    {
        var (length, dimension, shape) = (sizes.CacheLength, sizes.Dimension, sizes.Shape);
        float[] keys = new float[length],
            values = past[length..],
            output = new float[Rows.Length * shape.OutputRow];
        for (int b = 0; b < Blocks * sizes.KeyValueHeads; b++)
        for (int i = 0; i < Block; i++)
        for (int d = 0; d < dimension; d++)
            keys[b * dimension * Block + d * Block + i] = past[(b * Block + i) * dimension + d];
        var segments = Sequences
            .Select((q, s) => new Reference.Segment(Sequences[..s].Sum(o => o.Count), q.Count, q.Past, s * TableStride))
            .ToArray();
        Reference.Reference(rotated, keys, values, output, new(segments, tables, shape));
        return output;
    }
}
