using SimpleR1.Models;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Training;

/// <summary>
/// The decoder once more, as plainly as possible: one sequence at a time, float64, separate projections, repeated K/V, libtorch's autograd.
/// Shares no code with the real one, so that agreement means something.
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
        int n = tokens.Length,
            d = config.HeadDimension,
            half = d / 2;
        var x = Parameters["model.embed_tokens.weight"][tensor(tokens.Select(t => (long)t).ToArray())];
        var frequencies = pow(config.RopeTheta, arange(0, half, dtype: float64) * (-2.0 / d));
        var angles = outer(arange(0, n, dtype: float64), frequencies).unsqueeze(1); // [n, 1, half]
        var mask = triu(ones(n, n, dtype: float64), 1) * -1e30;
        for (int layer = 0; layer < config.Layers; layer++)
        {
            Tensor P(string name) => Parameters[$"model.layers.{layer}.{name}"];
            Tensor Project(Tensor y, string name) =>
                y.mm(P(name + ".weight").t())
                + (
                    config.QueryKeyValueBias && name != "self_attn.o_proj"
                        ? P(name + ".bias")
                        : zeros(1, dtype: float64)
                );
            var h = Norm(x, P("input_layernorm.weight"));
            var q = Project(h, "self_attn.q_proj").view(n, config.Heads, d);
            var k = Project(h, "self_attn.k_proj").view(n, config.KeyValueHeads, d);
            var v = Project(h, "self_attn.v_proj").view(n, config.KeyValueHeads, d);
            if (config.QueryKeyNorm)
                (q, k) = (Norm(q, P("self_attn.q_norm.weight")), Norm(k, P("self_attn.k_norm.weight")));
            (q, k) = (Rotate(q), Rotate(k));
            k = k.repeat_interleave(config.GroupSize, 1);
            v = v.repeat_interleave(config.GroupSize, 1);
            var scores = q.transpose(0, 1).bmm(k.transpose(0, 1).transpose(1, 2)) / Math.Sqrt(d) + mask; // [heads, n, n]
            var mixed = scores.softmax(-1).bmm(v.transpose(0, 1)).transpose(0, 1).reshape(n, config.QuerySize);
            x = x + mixed.mm(P("self_attn.o_proj.weight").t());
            h = Norm(x, P("post_attention_layernorm.weight"));
            var gate = h.mm(P("mlp.gate_proj.weight").t());
            x = x + (gate * gate.sigmoid() * h.mm(P("mlp.up_proj.weight").t())).mm(P("mlp.down_proj.weight").t());
        }
        x = Norm(x, Parameters["model.norm.weight"]);
        var logits = x.mm(Parameters[config.TieEmbeddings ? "model.embed_tokens.weight" : "lm_head.weight"].t());
        return (logits / temperature).log_softmax(-1);

        Tensor Rotate(Tensor t)
        {
            Tensor a = t.narrow(2, 0, half),
                b = t.narrow(2, half, half);
            return cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], 2);
        }
        Tensor Norm(Tensor t, Tensor weight) =>
            t * (t.pow(2).mean([-1L], keepdim: true) + config.RmsNormEpsilon).rsqrt() * weight;
    }

    public void Dispose()
    {
        foreach (var parameter in Parameters.Values)
            parameter.Dispose();
    }
}
