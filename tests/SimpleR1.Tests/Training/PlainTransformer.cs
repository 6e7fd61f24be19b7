using SimpleR1.Models;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Training;

/// <summary>
/// A second decoder, as plain as possible: one sequence at a time, float64, separate projections, repeated K/V, libtorch's autograd.
/// It shares no code with the real one, so that agreement means something.
/// </summary>
public sealed class PlainTransformer : IDisposable
{
    private readonly ModelConfig config;
    public Dictionary<string, Tensor> Parameters { get; } = []; // by Hugging Face name

    public PlainTransformer(FlatWeights weights)
    {
        config = weights.Layout.Config;
        foreach (var t in weights.Layout.CheckpointTensors)
            Parameters[t.Name] = weights
                .Flat.narrow(0, t.Offset, t.Length)
                .view(t.Shape)
                .to(float64)
                .clone()
                .detach()
                .requires_grad_(true);
    }

    /// <summary>log softmax(logits / temperature) at every position: [tokens, vocabulary].</summary>
    public Tensor LogProbs(int[] tokens, double temperature)
    {
        var x = Parameters["model.embed_tokens.weight"][tensor(tokens.Select(t => (long)t).ToArray())];
        for (int layer = 0; layer < config.Layers; layer++)
        {
            x = x + Attention(layer, Norm(x, P(layer, "input_layernorm.weight")));
            x = x + FeedForward(layer, Norm(x, P(layer, "post_attention_layernorm.weight")));
        }
        x = Norm(x, Parameters["model.norm.weight"]);
        var logits = x.mm(Parameters[config.TieEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight"].t());
        return (logits / temperature).log_softmax(-1);
    }

    /// <summary>[tokens, hidden] → [tokens, hidden]</summary>
    private Tensor Attention(int layer, Tensor h)
    {
        long n = h.shape[0];
        int d = config.HeadDimension;
        var q = Project(layer, h, "self_attn.q_proj").view(n, config.Heads, d);
        var k = Project(layer, h, "self_attn.k_proj").view(n, config.KeyValueHeads, d);
        var v = Project(layer, h, "self_attn.v_proj").view(n, config.KeyValueHeads, d);
        if (config.QueryKeyNorm)
        {
            q = Norm(q, P(layer, "self_attn.q_norm.weight"));
            k = Norm(k, P(layer, "self_attn.k_norm.weight"));
        }
        q = Rotate(q);
        k = Rotate(k).repeat_interleave(config.GroupSize, 1);
        v = v.repeat_interleave(config.GroupSize, 1);

        var mask = triu(ones(n, n, dtype: float64), 1) * -1e30;
        var scores = q.transpose(0, 1).bmm(k.transpose(0, 1).transpose(1, 2)) / Math.Sqrt(d) + mask; // [heads, n, n]
        var mixed = scores.softmax(-1).bmm(v.transpose(0, 1)).transpose(0, 1).reshape(n, config.QuerySize);
        return mixed.mm(P(layer, "self_attn.o_proj.weight").t());
    }

    private Tensor FeedForward(int layer, Tensor h)
    {
        var gate = h.mm(P(layer, "mlp.gate_proj.weight").t());
        var gated = gate * gate.sigmoid() * h.mm(P(layer, "mlp.up_proj.weight").t());
        return gated.mm(P(layer, "mlp.down_proj.weight").t());
    }

    private Tensor Project(int layer, Tensor h, string name)
    {
        var product = h.mm(P(layer, name + ".weight").t());
        return config.QueryKeyValueBias ? product + P(layer, name + ".bias") : product;
    }

    /// <summary>Rotary embedding: [tokens, heads, headDim] → the same.</summary>
    private Tensor Rotate(Tensor t)
    {
        int d = config.HeadDimension;
        int half = d / 2;
        var frequencies = pow(config.RopeTheta, arange(0, half, dtype: float64) * (-2.0 / d));
        var angles = outer(arange(0, t.shape[0], dtype: float64), frequencies).unsqueeze(1); // [tokens, 1, half]
        var a = t.narrow(2, 0, half);
        var b = t.narrow(2, half, half);
        return cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], 2);
    }

    private Tensor Norm(Tensor t, Tensor weight) =>
        t * (t.pow(2).mean([-1L], keepdim: true) + config.RmsNormEpsilon).rsqrt() * weight;

    private Tensor P(int layer, string name) => Parameters[$"model.layers.{layer}.{name}"];

    public void Dispose()
    {
        foreach (var parameter in Parameters.Values)
            parameter.Dispose();
    }
}
