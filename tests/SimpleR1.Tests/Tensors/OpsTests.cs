using SimpleR1.Tensors;
using SimpleR1.Tensors.Cpu.Attention;
using SimpleR1.Tensors.Operands;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Tensors;

public sealed class OpsTests
{
    private static Tensor Random(ulong seed, params long[] shape)
    {
        using var generator = new Generator(seed, CPU);
        return randn(shape, generator: generator);
    }

    [Theory]
    [InlineData(1, 1, 8, new[] { 0, 1 })]
    [InlineData(4, 2, 16, new[] { 0, 5, 6, 40 })]
    [InlineData(7, 1, 20, new[] { 0, 33, 100 })] // a head dimension that is no multiple of a vector
    [InlineData(9, 3, 64, new[] { 0, 70, 71, 135 })]
    public void Packed_attention_equals_the_plain_reference(int heads, int keyValueHeads, int dimension, int[] offsets)
    {
        using var scope = NewDisposeScope();
        var shape = new AttentionShape(heads, keyValueHeads, dimension);
        var qkv = Random(1, offsets[^1], shape.QkvRow);
        var output = full(offsets[^1], shape.OutputRow, float.NaN); // poisoned: every element must be written
        unsafe
        {
            PackedAttentionKernel.Forward(
                (float*)Aten.DataPointer(qkv),
                (float*)Aten.DataPointer(output),
                null,
                PackedSequences.Whole(offsets, shape)
            );
        }
        var expected = new float[offsets[^1] * shape.OutputRow];
        PackedAttentionKernel.Reference(qkv.data<float>().ToArray(), expected, PackedSequences.Whole(offsets, shape));
        double worst = output.data<float>().ToArray().Zip(expected).Max(p => Math.Abs((double)p.First - p.Second));
        Assert.True(worst < 1e-5, $"largest difference {worst:E2}");
    }

    /// <summary>Prefixes of one tile and of several, of one token, with one and with several segments that see them.</summary>
    public static readonly TheoryData<int, int, int> Heads = new()
    {
        { 2, 2, 8 },
        { 7, 1, 20 },
        { 4, 2, 64 },
    };

    private static readonly Segment[] Prefixed =
    [
        new(0, 37),
        new(37, 5, 0),
        new(42, 70, 0),
        new(112, 1, 0),
        new(113, 9),
        new(122, 1),
        new(123, 33, 5),
        new(156, 20, 5),
    ];

    [Theory, MemberData(nameof(Heads))]
    public void Packed_attention_of_segments_with_prefixes_equals_the_plain_reference(int heads, int kvHeads, int d)
    {
        using var scope = NewDisposeScope();
        var sequences = new PackedSequences(Prefixed, new(heads, kvHeads, d));
        var qkv = Random(1, sequences.Tokens, sequences.Shape.QkvRow);
        var output = Ops.PackedAttention(null, qkv, sequences);
        var expected = new float[output.numel()];
        PackedAttentionKernel.Reference(qkv.data<float>().ToArray(), expected, sequences);
        double worst = output.data<float>().ToArray().Zip(expected).Max(p => Math.Abs((double)p.First - p.Second));
        Assert.True(worst < 1e-5, $"largest difference {worst:E2}");
    }

    [Theory, MemberData(nameof(Heads))]
    public void Packed_attention_of_segments_with_prefixes_has_the_gradients_of_autograd(int heads, int kvHeads, int d)
    {
        using var scope = NewDisposeScope();
        var sequences = new PackedSequences(Prefixed, new(heads, kvHeads, d));
        var shape = sequences.Shape;
        var qkv = Random(1, sequences.Tokens, shape.QkvRow);
        var upstream = Random(2, sequences.Tokens, shape.OutputRow);
        using var tape = new Tape();
        var output = Ops.PackedAttention(tape, qkv, sequences);
        tape.Backward(output, upstream.clone());
        var found = tape.TakeGradient(qkv);

        // All tokens against all, with what a row must not see masked
        var mask = ones(sequences.Tokens, sequences.Tokens, dtype: ScalarType.Bool);
        foreach (var segment in Prefixed)
        {
            for (int t = segment.First; t < segment.End; t++)
                mask[t, segment.First..(t + 1)] = false;
            if (segment.Prefix >= 0)
                mask[segment.First..segment.End, Prefixed[segment.Prefix].First..Prefixed[segment.Prefix].End] = false;
        }
        var leaf = qkv.detach().requires_grad_(true);
        var all = leaf.view(sequences.Tokens, -1, d).transpose(0, 1); // [heads + 2·kvHeads, tokens, d]
        var keys = all.narrow(0, heads, kvHeads).repeat_interleave(heads / kvHeads, 0);
        var values = all.narrow(0, heads + kvHeads, kvHeads).repeat_interleave(heads / kvHeads, 0);
        var scores = all.narrow(0, 0, heads).matmul(keys.transpose(1, 2)) * shape.Scale;
        var mixed = scores.masked_fill(mask, float.NegativeInfinity).softmax(-1).matmul(values);
        mixed.transpose(0, 1).reshape(sequences.Tokens, shape.OutputRow).backward([upstream]);
        AssertClose(leaf.grad!, found);
    }

    [Theory]
    [InlineData(1, 2, -1, "segment 1 has 2 tokens from 1 on; expected at least one, from 3 on")]
    [InlineData(3, 0, -1, "segment 1 has 0 tokens")]
    [InlineData(3, 2, 1, "segment 1 has the prefix 1; expected 0")]
    public void Packed_attention_refuses_segments_with_gaps_and_other_prefixes(
        int first,
        int count,
        int prefix,
        string why
    )
    {
        using var scope = NewDisposeScope();
        var sequences = new PackedSequences([new(0, 3), new(first, count, prefix)], new(2, 1, 8));
        var error = Assert.Throws<ArgumentException>(() =>
            Ops.PackedAttention(null, zeros(5, sequences.Shape.QkvRow), sequences)
        );
        Assert.Contains(why, error.Message);
    }

    [Fact]
    public void Token_log_probs_of_a_large_vocabulary_in_chunks_have_the_gradients_of_autograd()
    {
        using var scope = NewDisposeScope();
        const int rows = 600,
            hidden = 8,
            vocabulary = 150_000; // more logits than are kept: they are made again in the backward pass
        Tensor x = Random(2, rows, hidden),
            weight = Random(3, vocabulary, hidden) * 0.1,
            chosen = randint(0, vocabulary, [rows]);
        var upstream = Random(4, rows);
        var gradient = zeros_like(weight);
        using var tape = new Tape();
        tape.Parameter(weight, gradient);
        var (logProbs, entropy) = Ops.TokenLogProbs(tape, x, weight, new(chosen, 0.7), HeadMemory.Cpu);
        float[] found = logProbs.data<float>().ToArray(),
            entropies = entropy.data<float>().ToArray();
        tape.Backward(logProbs, upstream.clone());
        var dx = tape.TakeGradient(x);

        var (leafX, leafW) = (x.detach().requires_grad_(true), weight.detach().requires_grad_(true));
        var all = (leafX.mm(leafW.t()) / 0.7).log_softmax(-1);
        var expected = all.gather(1, chosen.unsqueeze(1)).squeeze(1);
        expected.backward([upstream]);
        Assert.True(expected.detach().allclose(tensor(found), 1e-5, 1e-5));
        Assert.True((-(all.exp() * all).sum(-1)).detach().allclose(tensor(entropies), 1e-4, 1e-4));
        AssertClose(leafX.grad!, dx);
        AssertClose(leafW.grad!, gradient);
    }

    [Fact]
    public void Any_torch_expression_becomes_an_operation_with_its_gradient()
    {
        using var scope = NewDisposeScope();
        Tensor table = Random(5, 10, 6),
            ids = tensor(new long[] { 1, 3, 3, 7 }),
            gradient = zeros_like(table);
        using var tape = new Tape();
        tape.Parameter(table, gradient);

        // [4, 1].
        var y = Tape.Torch(tape, t => (t.pow(2) + t.sin()).sum([1L], keepdim: true), Ops.Embedding(tape, table, ids));
        tape.Backward(y, ones(4, 1));
        var leaf = table.detach().requires_grad_(true);
        var rows = leaf.index_select(0, ids);
        (rows.pow(2) + rows.sin()).sum().backward();
        AssertClose(leaf.grad!, gradient);
    }

    [Fact]
    public void Wrong_shapes_and_types_throw_before_native_code_is_reached()
    {
        using var scope = NewDisposeScope();
        Tensor x = zeros(3, 8),
            weight = zeros(5, 7),
            ids = tensor(new long[] { 0, 99 });
        Assert.Contains(
            "expected shape [any, 8], found [5, 7]",
            Assert.Throws<ArgumentException>(() => Ops.Linear(null, x, weight)).Message
        );
        Assert.Contains(
            "99",
            Assert.Throws<ArgumentOutOfRangeException>(() => Ops.Embedding(null, weight, ids)).Message
        );
        Assert.Contains(
            "f32",
            Assert.Throws<ArgumentException>(() => Ops.RmsNorm(null, x.to(float64), zeros(8), 1e-6)).Message
        );
        Assert.Contains("not contiguous", Assert.Throws<ArgumentException>(() => Ops.SwiGlu(zeros(8, 4).t())).Message);
        Assert.Contains(
            "found [3, 8]",
            Assert.Throws<ArgumentException>(() => Ops.PackedAttention(null, x, new([new(0, 3)], new(2, 1, 8)))).Message
        );
        Assert.Contains(
            "context of 4",
            Assert
                .Throws<ArgumentOutOfRangeException>(() =>
                    Ops.Rotary(
                        null,
                        zeros(1, 24),
                        new(tensor(new long[] { 4 }), zeros(4, 4), zeros(4, 4)),
                        new(1, 1, 8)
                    )
                )
                .Message
        );
        Assert.Throws<InvalidOperationException>(() => Aten.Call("no_such_operation", "", x));
    }

    private static void AssertClose(Tensor expected, Tensor found)
    {
        double error = (expected - found).norm().item<float>() / (expected.norm().item<float>() + 1e-12);
        Assert.True(error < 1e-5, $"relative error {error:E2}");
    }
}
