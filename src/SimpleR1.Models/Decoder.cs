using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Models;

/// <summary>The forward pass of Llama, Qwen2 and Qwen3: one definition for training, prefill and decode.</summary>
public sealed class Decoder : IDisposable
{
    private readonly Tensor cosine,
        sine; // [positions, headDimension / 2]
    private readonly Tensors.Cuda.DeviceMemory? rotaryMemory;

    public Decoder(FlatWeights weights)
    {
        Weights = weights;
        (cosine, sine) = RotaryTables(Config);
        if (weights.Device is not { } gpu)
            return;
        long bytes = cosine.numel() * sizeof(float);
        rotaryMemory = gpu.Allocate(2 * bytes, "rotary tables");
        (cosine, sine) = (MoveTo(cosine, 0), MoveTo(sine, bytes));

        Tensor MoveTo(Tensor table, long offset)
        {
            gpu.Write<float>(rotaryMemory.Pointer + (nint)offset, table.data<float>().ToArray());
            var there = rotaryMemory.Tensor(table.shape, float32, offset).DetachFromDisposeScope();
            table.Dispose();
            return there;
        }
    }

    public FlatWeights Weights { get; }
    public ModelConfig Config => Weights.Layout.Config;

    /// <summary>[vocabulary, hidden]: the output projection, which may be the embedding itself.</summary>
    public Tensor OutputWeight => Weights[Config.TieEmbeddings ? "embedding" : "output"];

    /// <summary>Runs all layers over packed tokens. With a tape it can be differentiated; without, results belong to the caller's dispose scope.</summary>
    /// <param name="ids">[tokens] int64</param>
    /// <param name="positions">[tokens] int64, each token's position in its own sequence</param>
    /// <param name="attention">Whom each token looks at.</param>
    /// <param name="checkpointing">Keep only each layer's input and compute the rest again for the gradient.</param>
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
        Tensor[] state = [Ops.Embedding(tape, Weights["embedding"], ids)]; // x [tokens, hidden], and what the layer before has to add to it
        for (int i = 0; i < Config.Layers; i++)
        {
            int layer = i;
            Tensor[] Run(Tape? t, Tensor[] input) => Layer(t, layer, input, positions, attention);
            if (tape is not null)
            {
                state = checkpointing ? tape.Checkpoint(Run, state) : Run(tape, state);
                continue;
            }
            Weights.Device?.Scratch.Flip();
            using var scope = NewDisposeScope();
            state = [.. Run(null, state).Select(o => o.MoveToOuterDisposeScope())];
        }
        Weights.Device?.Scratch.Flip();
        return AddAndNorm(tape, state, Weights["final_norm"]).Normed;
    }

    /// <summary>[rows, hidden] → [rows, vocabulary]</summary>
    public Tensor Logits(Tensor hidden)
    {
        using var gradients = no_grad();
        return Ops.Linear(null, hidden, OutputWeight);
    }

    /// <summary>The same into memory of the caller's, f32.</summary>
    public void LogitsInto(Tensor hidden, Tensor logits)
    {
        using var gradients = no_grad();
        Ops.LinearInto(hidden, OutputWeight, logits);
    }

    private Tensor[] Layer(Tape? tape, int layer, Tensor[] state, Tensor positions, IAttention attention)
    {
        var c = Config;
        Tensor W(string name) => Weights[$"layers.{layer}.{name}"];
        var rotation = new QueryKeyRotation(
            c,
            positions,
            cosine,
            sine,
            c.QueryKeyNorm ? W("query_norm") : null,
            c.QueryKeyNorm ? W("key_norm") : null
        );
        var (x, normed) = AddAndNorm(tape, state, W("attention_norm")); // [tokens, hidden]
        var qkv = Ops.Linear(tape, normed, W("qkv"), c.QueryKeyValueBias ? W("qkv_bias") : null); // [tokens, (heads + 2 kvHeads) · d]
        var attended = attention.Attend(tape, layer, qkv, rotation); // [tokens, heads · d]
        var delta = Ops.Linear(tape, attended, W("attention_output")); // [tokens, hidden]
        (x, normed) = Ops.AddRmsNorm(tape, x, delta, W("mlp_norm"), c.RmsNormEpsilon);
        var gated = Ops.GatedLinear(tape, normed, W("gate_up")); // [tokens, intermediate]
        return [x, Ops.Linear(tape, gated, W("down"))];
    }

    /// <summary>The residual stream with what the layer before adds to it (nothing before the first), and its norm.</summary>
    private (Tensor X, Tensor Normed) AddAndNorm(Tape? tape, Tensor[] state, Tensor weight) =>
        state.Length == 2
            ? Ops.AddRmsNorm(tape, state[0], state[1], weight, Config.RmsNormEpsilon)
            : (state[0], Ops.RmsNorm(tape, state[0], weight, Config.RmsNormEpsilon));

    /// <summary>cos and sin of position × frequency, computed in doubles; Llama 3's scaling after its reference implementation.</summary>
    private static (Tensor, Tensor) RotaryTables(ModelConfig config)
    {
        int half = config.HeadDimension / 2;
        float[] cos = new float[(long)config.MaxPositions * half],
            sin = new float[cos.Length];
        for (int i = 0; i < half; i++)
        {
            double frequency = Math.Pow(config.RopeTheta, -2.0 * i / config.HeadDimension);
            if (config.RopeScaling is { } scaling)
                frequency = Scale(frequency, scaling);
            for (int position = 0; position < config.MaxPositions; position++)
                (sin[position * half + i], cos[position * half + i]) = ((float, float))
                    Math.SinCos(position * frequency);
        }
        return (
            tensor(cos, [config.MaxPositions, half]).DetachFromDisposeScope(),
            tensor(sin, [config.MaxPositions, half]).DetachFromDisposeScope()
        );
    }

    private static double Scale(double frequency, Llama3RopeScaling s)
    {
        double wavelength = 2 * Math.PI / frequency;
        if (wavelength < s.OriginalMaxPositions / s.HighFrequencyFactor)
            return frequency;
        if (wavelength > s.OriginalMaxPositions / s.LowFrequencyFactor)
            return frequency / s.Factor;
        double smooth =
            (s.OriginalMaxPositions / wavelength - s.LowFrequencyFactor)
            / (s.HighFrequencyFactor - s.LowFrequencyFactor);
        return (1 - smooth) * frequency / s.Factor + smooth * frequency;
    }

    public void Dispose()
    {
        cosine.Dispose();
        sine.Dispose();
        rotaryMemory?.Dispose();
    }
}
