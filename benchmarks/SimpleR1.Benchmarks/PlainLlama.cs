using SimpleR1.Models;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Benchmarks;

/// <summary>
/// A model as one writes it with TorchSharp alone: fused projections, libtorch's rms_norm and grouped-query
/// attention, a contiguous KV cache of equal lengths, autograd for training. The opponent in the same run.
/// </summary>
internal sealed class PlainLlama : IDisposable
{
    private readonly ModelConfig c;
    private readonly FlatWeights weights;
    private readonly Dictionary<string, Tensor> parameters = [];
    private readonly Tensor cos; // [positions, headDimension]
    private readonly Tensor sin; // [positions, headDimension], the first half negative
    private readonly bool train;

    public PlainLlama(FlatWeights weights, bool train)
    {
        this.weights = weights;
        this.train = train;
        c = weights.Layout.Config;

        // Parameters: views of the flat weights, or copies with gradients.
        foreach (var slot in weights.Layout.Slots)
            parameters[slot.Name] = train
                ? weights[slot.Name].clone().requires_grad_(true).DetachFromDisposeScope()
                : weights[slot.Name];

        // Rotary embedding of every position.
        using var scope = NewDisposeScope();
        var inverse = pow(c.RopeTheta, -arange(0, c.HeadDimension, 2, dtype: float32) / c.HeadDimension);
        var angles = outer(arange(0, c.MaxPositions, dtype: float32), inverse);
        cos = cat([angles, angles], -1).cos().DetachFromDisposeScope();
        sin = cat([-angles.sin(), angles.sin()], -1).DetachFromDisposeScope();
    }

    /// <summary>
    /// Caches of <paramref name="length"/> positions: [batch, kvHeads, length, headDimension] for K and V of each
    /// layer.
    /// </summary>
    public (Tensor K, Tensor V)[] NewCache(int batch, int length)
    {
        Tensor Random() => randn(batch, c.KeyValueHeads, length, c.HeadDimension);
        return [.. Enumerable.Range(0, c.Layers).Select(_ => (Random(), Random()))];
    }

    /// <summary>One decode step at one position for all rows: ids [batch] → greedy next ids [batch].</summary>
    public Tensor Decode(Tensor ids, (Tensor K, Tensor V)[] cache, int position)
    {
        long batch = ids.shape[0];
        var x = parameters["embedding"].index_select(0, ids);
        var rowCos = cos.narrow(0, position, 1).view(1, 1, 1, -1);
        var rowSin = sin.narrow(0, position, 1).view(1, 1, 1, -1);
        for (int i = 0; i < c.Layers; i++)
        {
            using var scope = NewDisposeScope();
            var qkv = nn
                .functional.linear(Norm(x, $"layers.{i}.attention_norm"), parameters[$"layers.{i}.qkv"])
                .view(batch, c.Heads + 2 * c.KeyValueHeads, 1, c.HeadDimension);
            var rotated = Rotate(qkv.narrow(1, 0, c.Heads + c.KeyValueHeads), rowCos, rowSin);
            cache[i].K.narrow(2, position, 1).copy_(rotated.narrow(1, c.Heads, c.KeyValueHeads));
            cache[i].V.narrow(2, position, 1).copy_(qkv.narrow(1, c.Heads + c.KeyValueHeads, c.KeyValueHeads));
            var mixed = Attention(
                rotated.narrow(1, 0, c.Heads),
                cache[i].K.narrow(2, 0, position + 1),
                cache[i].V.narrow(2, 0, position + 1),
                causal: false
            );
            x = FinishLayer(i, x, mixed.reshape(batch, c.QuerySize)).MoveToOuterDisposeScope();
        }
        return nn.functional.linear(Norm(x, "final_norm"), parameters["embedding"]).argmax(-1);
    }

    /// <summary>Forward and backward of next-token loss: ids [batch, length].</summary>
    public void TrainStep(Tensor ids)
    {
        using var outer = NewDisposeScope();
        long batch = ids.shape[0];
        long length = ids.shape[1];
        var x = parameters["embedding"].index_select(0, ids.view(-1));
        var rowCos = cos.narrow(0, 0, length).view(1, 1, length, -1);
        var rowSin = sin.narrow(0, 0, length).view(1, 1, length, -1);
        for (int i = 0; i < c.Layers; i++)
        {
            var qkv = nn
                .functional.linear(Norm(x, $"layers.{i}.attention_norm"), parameters[$"layers.{i}.qkv"])
                .view(batch, length, c.Heads + 2 * c.KeyValueHeads, c.HeadDimension)
                .transpose(1, 2);
            var rotated = Rotate(qkv.narrow(1, 0, c.Heads + c.KeyValueHeads), rowCos, rowSin);
            var mixed = Attention(
                rotated.narrow(1, 0, c.Heads),
                rotated.narrow(1, c.Heads, c.KeyValueHeads),
                qkv.narrow(1, c.Heads + c.KeyValueHeads, c.KeyValueHeads),
                causal: true
            );
            x = FinishLayer(i, x, mixed.transpose(1, 2).reshape(batch * length, c.QuerySize));
        }
        var logits = nn.functional.linear(Norm(x, "final_norm"), parameters["embedding"]);
        nn.functional.cross_entropy(logits, ids.view(-1)).backward();
        foreach (var parameter in parameters.Values)
            parameter.grad?.zero_();
    }

    /// <summary>Attention's output product, and the MLP, each added to the residual stream.</summary>
    private Tensor FinishLayer(int i, Tensor x, Tensor mixed)
    {
        x = x + nn.functional.linear(mixed, parameters[$"layers.{i}.attention_output"]);
        var gateUp = nn.functional.linear(Norm(x, $"layers.{i}.mlp_norm"), parameters[$"layers.{i}.gate_up"]);
        var hidden =
            nn.functional.silu(gateUp.narrow(1, 0, c.IntermediateSize))
            * gateUp.narrow(1, c.IntermediateSize, c.IntermediateSize);
        return x + nn.functional.linear(hidden, parameters[$"layers.{i}.down"]);
    }

    private Tensor Norm(Tensor x, string weight) =>
        Aten.Call(
            "rms_norm",
            "",
            x,
            new long[] { x.shape[^1] },
            Aten.Argument.Some(parameters[weight]),
            Aten.Argument.Some(c.RmsNormEpsilon)
        );

    private Tensor Rotate(Tensor x, Tensor rowCos, Tensor rowSin)
    {
        long half = c.HeadDimension / 2;
        return x * rowCos + cat([x.narrow(-1, half, half), x.narrow(-1, 0, half)], -1) * rowSin;
    }

    private static Tensor Attention(Tensor q, Tensor k, Tensor v, bool causal) =>
        Aten.Call(
            "scaled_dot_product_attention",
            "",
            q,
            k,
            v,
            Aten.Argument.None,
            0.0,
            causal,
            Aten.Argument.None,
            true
        );

    public void Dispose()
    {
        if (train)
            foreach (var parameter in parameters.Values)
                parameter.Dispose();
        cos.Dispose();
        sin.Dispose();
        GC.KeepAlive(weights);
    }
}
