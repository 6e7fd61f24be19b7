using SimpleR1.Inference.Scheduling;
using SimpleR1.Models;
using SimpleR1.Tensors;
using static TorchSharp.torch;
using Kernel = SimpleR1.Tensors.Cpu.Attention.PagedAttention;

namespace SimpleR1.Inference.Cpu;

/// <summary>
/// Attention over the paged cache: stores the step's keys and values, then attends over each sequence's block table.
/// </summary>
internal sealed unsafe class CpuPagedAttention(ModelConfig config, CpuKvCache cache, int blockSize) : IAttention
{
    private readonly Kernel.Shape shape = new(config.Heads, config.KeyValueHeads, config.HeadDimension, blockSize);
    private readonly List<Kernel.Segment> segments = [];
    private readonly List<int> tables = [];
    private Kernel.Batch batch = null!;
    private int tokens;

    /// <summary>
    /// Sets the rows of the next forward pass: each sequence's next <c>Count</c> tokens, one sequence after another.
    /// </summary>
    public void Prepare(IReadOnlyList<(Sequence Sequence, int Count)> scheduled)
    {
        segments.Clear();
        tables.Clear();
        tokens = 0;
        foreach (var (sequence, count) in scheduled)
        {
            segments.Add(new(tokens, count, sequence.Computed, tables.Count));
            tables.AddRange(sequence.Blocks);
            tokens += count;
        }

        batch = new([.. segments], [.. tables], shape);
    }

    public Tensor Attend(Tape? tape, int layer, Tensor qkv, QueryKeyRotation rotation)
    {
        if (tape is not null)
            throw new NotSupportedException(
                "attention over the paged cache has no gradient; train with PackedAttention"
            );
        Require.Floats(qkv, [tokens, shape.QkvRow]);

        qkv = rotation.Apply(null, qkv);
        var output = empty(tokens, shape.OutputRow, dtype: float32); // [tokens, heads · headDimension]
        float* rows = (float*)Aten.DataPointer(qkv);
        Kernel.Write(rows, cache.Keys(layer), cache.Values(layer), batch);
        Kernel.Attend(rows, cache.Keys(layer), cache.Values(layer), (float*)Aten.DataPointer(output), batch);
        return output;
    }
}
