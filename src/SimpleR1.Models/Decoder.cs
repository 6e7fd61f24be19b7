using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Models;

/// <summary>
/// The forward pass of every <see cref="ModelFamily"/>: one definition for training, prefill and decode.
/// </summary>
public sealed class Decoder(FlatWeights weights) : IDisposable
{
    private readonly RotaryTables rotary = new(weights.Layout.Config, weights.Device);

    public FlatWeights Weights => weights;
    public ModelConfig Config => weights.Layout.Config;

    /// <summary>[vocabulary, hidden]: the output projection, which may be the embedding itself.</summary>
    public Tensor OutputWeight => weights.Output;

    /// <summary>
    /// Runs all layers over packed tokens. With a tape the result can be differentiated; without one, results belong to
    /// the caller's dispose scope.
    /// </summary>
    /// <param name="ids">[tokens] int64</param>
    /// <param name="positions">[tokens] int64, each token's position in its own sequence</param>
    /// <param name="attention">What each token looks at.</param>
    /// <param name="checkpointing">Keep only each layer's input, and compute the rest again for the gradient.</param>
    /// <returns>[tokens, hidden], after the final norm</returns>
    public Tensor Hidden(
        Tensor ids,
        Tensor positions,
        IAttention attention,
        Tape? tape = null,
        bool checkpointing = false
    )
    {
        using var gradients = no_grad();
        var memory = Weights.Device is { } gpu ? ResultMemory.CurrentOf(gpu) : null;

        // x [tokens, hidden], and from the second layer on what the layer before has to add to it
        Tensor[] state = [Ops.Embedding(tape, Weights.Embedding, ids)];
        foreach (var parameters in Weights.Layers)
        {
            Tensor[] Run(Tape? t, Tensor[] input) => Layer(t, parameters, input, positions, attention);
            if (tape is not null)
            {
                state = checkpointing ? tape.Checkpoint(Run, state) : Run(tape, state);
                continue;
            }

            memory?.NextLayer();
            using var scope = NewDisposeScope();
            state = [.. Run(null, state).Select(o => o.MoveToOuterDisposeScope())];
        }

        memory?.NextLayer();
        return AddAndNorm(tape, state, Weights.FinalNorm).Normed;
    }

    /// <summary>[rows, hidden] → [rows, vocabulary]</summary>
    public Tensor Logits(Tensor hidden)
    {
        using var gradients = no_grad();
        return Ops.Linear(null, hidden, OutputWeight);
    }

    /// <summary>Writes logits, f32, into the caller's memory.</summary>
    /// <param name="logits">[rows, vocabulary] f32</param>
    public void LogitsInto(Tensor hidden, Tensor logits)
    {
        using var gradients = no_grad();
        Ops.LinearInto(hidden, OutputWeight, logits);
    }

    /// <summary>
    /// Bytes of the arena that a layer's results take on a GPU: the residual stream twice in f32, norms, projections,
    /// attention and the MLP in the weights' type.
    /// </summary>
    public static long ActivationBytes(ModelConfig config, long elementBytes, int tokens)
    {
        long elements = config.QkvSize + config.QuerySize + 4L * config.HiddenSize + 3L * config.IntermediateSize;
        long perToken = elements * elementBytes + 2L * config.HiddenSize * sizeof(float);
        return tokens * perToken + 16 * 256; // each of a layer's tensors begins at a multiple of 256 bytes
    }

    private Tensor[] Layer(Tape? tape, LayerParameters layer, Tensor[] state, Tensor positions, IAttention attention)
    {
        var rotation = new QueryKeyRotation
        {
            Config = Config,
            Positions = positions,
            Cosine = rotary.Cosine,
            Sine = rotary.Sine,
            QueryNorm = layer.QueryNorm,
            KeyNorm = layer.KeyNorm,
        };

        var (x, normed) = AddAndNorm(tape, state, layer.AttentionNorm); // [tokens, hidden]
        var qkv = Project(tape, normed, layer.Qkv); // [tokens, (heads + 2 kvHeads) · d]
        var attended = attention.Attend(tape, layer.Index, qkv, rotation); // [tokens, heads · d]
        var delta = Project(tape, attended, layer.Output); // [tokens, hidden]

        (x, normed) = Ops.AddRmsNorm(tape, x, delta, layer.MlpNorm, Config.RmsNormEpsilon);
        tape?.Release(delta);
        return [x, Ops.GatedMlp(tape, normed, layer.GateUp.Weight, layer.Down.Weight)];
    }

    /// <summary>[tokens, inputs] → [tokens, outputs]</summary>
    private static Tensor Project(Tape? tape, Tensor x, Projection projection) =>
        Ops.Linear(tape, x, projection.Weight, projection.Bias);

    /// <summary>
    /// The residual stream after adding what the layer before computed (nothing before the first), and its norm.
    /// </summary>
    private (Tensor X, Tensor Normed) AddAndNorm(Tape? tape, Tensor[] state, Tensor weight)
    {
        double epsilon = Config.RmsNormEpsilon;
        if (state is not [var x, var delta])
            return (state[0], Ops.RmsNorm(tape, state[0], weight, epsilon));
        var result = Ops.AddRmsNorm(tape, x, delta, weight, epsilon);
        tape?.Release(delta);
        return result;
    }

    public void Dispose() => rotary.Dispose();
}
