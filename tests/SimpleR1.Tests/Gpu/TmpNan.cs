using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Operands;
using SimpleR1.Training.Policy;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

[Collection("GPU"), Trait("Category", "Gpu")]
public sealed class TmpNan
{
    [Theory]
    [InlineData("llama", 512, 8, 0xFF, 64)]
    [InlineData("llama", 512, 8, 0, 64)]
    [InlineData("llama", 512, 1, 0xFF, 64)]
    [InlineData("llama", 512, 0, 0xFF, 64)]
    [InlineData("llama", 64, 1, 0xFF, 64)]
    [InlineData("llama", 512, 1, 0xFF, 100000)]
    [InlineData("qwen3", 512, 1, 0xFF, 64)]
    public void Zeros(string family, int hidden, int layers, int fill, int headKb)
    {
        var gpu = Gpu.Require();
        var config = TinyModels.Config(ModelFamily.Named(family), 64, false) with
        {
            HiddenSize = hidden,
            IntermediateSize = hidden * 4,
            HeadDimension = 64,
            Layers = layers,
            Heads = 8,
        };
        using var weights = new FlatWeights(new WeightLayout(config), ScalarType.BFloat16, gpu);
        using var memory = gpu.Allocate(4L << 30, "x");
        gpu.Fill(memory.Pointer, (byte)fill, memory.Bytes);
        using var pool = new DevicePool(memory, "");
        using var decoder = new Decoder(weights);
        TrainingSequence[] sequences = [.. Enumerable.Range(0, 16).Select(_ => new TrainingSequence(new int[513], 20))];
        using var entered = pool.Enter();
        using var scope = NewDisposeScope();
        using var batch = new PackedBatch(sequences, gpu);
        var h = batch.Hidden(decoder, null);
        var host = gpu.ToHost(h).to(float32);
        string found =
            $"hidden finite {host.isfinite().all().item<bool>()} zero {host.eq(0).all().item<bool>()}; kv {config.KeyValueHeads} ";
        var logits = Ops.Linear(null, h, decoder.OutputWeight);
        var l = gpu.ToHost(logits).to(float32);
        found += $"logits finite {l.isfinite().all().item<bool>()}; ";
        var p = gpu.ToHost(
            Ops.TokenLogProbs(
                null,
                h,
                decoder.OutputWeight,
                new(batch.Targets, 1),
                HeadMemory.OfBytes(headKb << 10)
            ).LogProbs
        );
        found +=
            $"log-probs finite {p.isfinite().all().item<bool>()} count {p.isfinite().logical_not().sum().item<long>()}; ";
        using var tape = new Tape();
        foreach (var slot in weights.Layout.Slots)
            tape.Parameter(weights[slot.Name], Ops.ZerosLike(weights[slot.Name]));
        var h2 = batch.Hidden(decoder, tape, false);
        var p2 = gpu.ToHost(h2).to(float32);
        found += $"taped hidden finite {p2.isfinite().all().item<bool>()}";
        Assert.Fail(found);
    }
}
