using System.Runtime.InteropServices;
using SimpleR1.Tensors.Cpu.Attention;
using Xunit;

namespace SimpleR1.Tests.Inference;

public sealed unsafe class PagedAttentionTests
{
    public static readonly TheoryData<int, int, int, int> Shapes = new()
    {
        { 9, 3, 64, 16 },
        { 14, 2, 64, 16 },
        { 4, 4, 8, 16 },
        { 4, 1, 128, 32 },
        { 6, 2, 20, 16 },
        { 40, 1, 16, 48 },
    };

    [Theory, MemberData(nameof(Shapes))]
    public void Kernel_on_random_batches_equals_plain_loops_and_reads_no_slot_that_was_not_written(
        int heads,
        int keyValueHeads,
        int dimension,
        int blockSize
    )
    {
        var shape = new PagedAttention.Shape(heads, keyValueHeads, dimension, blockSize);
        var random = new Random(heads * 1000 + dimension);
        foreach (
            var (start, count) in new[]
            {
                (new[] { 0, 0, 5, 300, 31 }, new[] { 1, 37, 1, 3, 20 }),
                ([255, 256, 511, 15], [1, 1, 3, 2]),
                ([0], [530]),
            }
        )
        {
            var setup = new Setup(shape, start, count, random);
            float[] expected = setup.Reference();
            float[] found = setup.Kernel();
            double worst = expected.Zip(found).Max(p => Math.Abs(p.First - p.Second));
            Assert.True(worst < 2e-6, $"largest difference {worst:E2}"); // NaN fails too: poison was read
        }
    }

    [Fact]
    public void Chunked_prefill_and_decode_give_the_same_bits_as_a_whole_prompt()
    {
        var shape = new PagedAttention.Shape(6, 2, 64, 16);
        var whole = new Setup(shape, [0], [600], new Random(3));
        float[] expected = whole.Kernel();
        float[] keys = Poisoned(whole.Keys.Length);
        float[] values = Poisoned(whole.Values.Length);
        var found = new float[expected.Length];
        int start = 0;
        foreach (int count in new[] { 1, 250, 5, 1, 100, 17, 200, 1, 1, 24 })
        {
            var batch = new PagedAttention.Batch([new(0, count, start, 0)], whole.Tables, shape);
            var qkv = whole.Qkv.AsSpan(start * shape.QkvRow, count * shape.QkvRow);
            Run(batch, qkv, keys, values, found.AsSpan(start * shape.OutputRow, count * shape.OutputRow));
            start += count;
        }

        Assert.Equal(600, start);
        Assert.Equal(
            MemoryMarshal.AsBytes(expected.AsSpan()).ToArray(),
            MemoryMarshal.AsBytes(found.AsSpan()).ToArray()
        );
    }

    private static float[] Poisoned(int length)
    {
        var values = new float[length];
        values.AsSpan().Fill(float.NaN);
        return values;
    }

    private static void Run(
        PagedAttention.Batch batch,
        ReadOnlySpan<float> qkv,
        float[] keys,
        float[] values,
        Span<float> output
    )
    {
        fixed (
            float* q = qkv,
                k = keys,
                v = values,
                o = output
        )
        {
            PagedAttention.Write(q, k, v, batch);
            PagedAttention.Attend(q, k, v, o, batch);
        }
    }

    /// <summary>
    /// Sequences with random contexts in scattered blocks; every slot that no token is written to is NaN.
    /// </summary>
    private sealed class Setup
    {
        private readonly PagedAttention.Shape shape;
        private readonly PagedAttention.Segment[] segments;
        private readonly int tokens;
        public readonly float[] Qkv;
        public readonly float[] Keys;
        public readonly float[] Values;
        public readonly int[] Tables;

        public Setup(PagedAttention.Shape shape, int[] start, int[] count, Random random)
        {
            this.shape = shape;
            var list = new List<PagedAttention.Segment>();
            var table = new List<int>();
            for (int s = 0; s < start.Length; s++)
            {
                list.Add(new(tokens, count[s], start[s], table.Count));
                tokens += count[s];
                for (int b = 0; b * shape.BlockSize < start[s] + count[s]; b++)
                    table.Add(table.Count);
            }

            segments = [.. list];
            Tables = [.. table];
            random.Shuffle(Tables);
            int elements = Tables.Length * shape.KeyValueHeads * shape.Dimension * shape.BlockSize;
            Keys = Poisoned(elements);
            Values = Poisoned(elements);
            Qkv = Random(tokens * shape.QkvRow, random);

            // The context before the new tokens, written by the plain loops.
            foreach (var segment in segments)
            {
                if (segment.Start == 0)
                    continue;
                var past = segment with { FirstRow = 0, Count = segment.Start, Start = 0 };
                PagedAttention.Reference(
                    Random(segment.Start * shape.QkvRow, random),
                    Keys,
                    Values,
                    new float[segment.Start * shape.OutputRow],
                    new([past], Tables, shape)
                );
            }
        }

        public float[] Reference()
        {
            var output = Poisoned(tokens * shape.OutputRow);
            PagedAttention.Reference(Qkv, [.. Keys], [.. Values], output, new(segments, Tables, shape));
            return output;
        }

        public float[] Kernel()
        {
            var output = Poisoned(tokens * shape.OutputRow);
            Run(new(segments, Tables, shape), Qkv, [.. Keys], [.. Values], output);
            return output;
        }

        private static float[] Random(int length, Random random)
        {
            var values = new float[length];
            for (int i = 0; i < length; i++)
                values[i] = (float)(random.NextDouble() * 2 - 1);
            return values;
        }
    }
}
