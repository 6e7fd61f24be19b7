using System.Security.Cryptography;
using System.Text;

namespace SimpleR1.Models;

/// <summary>
/// Where every parameter of a model lies in one contiguous buffer, in the order and fusion that the forward pass
/// computes with. Pure data: two processes with equal configs get equal layouts, and <see cref="Fingerprint"/> proves
/// it.
/// </summary>
public sealed class WeightLayout
{
    /// <summary>
    /// Slots start at multiples of this many elements, so that every view is aligned for vector loads (256 bytes in
    /// f32).
    /// </summary>
    public const int Alignment = 64;

    private readonly List<WeightSlot> slots = [];
    private readonly List<CheckpointTensor> tensors = [];
    private readonly Dictionary<string, WeightSlot> byName = [];
    private long length;

    public WeightLayout(ModelConfig config)
    {
        Config = config;
        int hidden = config.HiddenSize;
        Embedding = Add("embedding", [config.VocabularySize, hidden], "model.embed_tokens.weight");
        Layers = [.. Enumerable.Range(0, config.Layers).Select(AddLayer)];
        FinalNorm = Add("final_norm", [hidden], "model.norm.weight");
        Output = config.TieEmbeddings ? Embedding : Add("output", [config.VocabularySize, hidden], "lm_head.weight");
    }

    public ModelConfig Config { get; }
    public IReadOnlyList<WeightSlot> Slots => slots;

    /// <summary>[vocabulary, hidden]</summary>
    public WeightSlot Embedding { get; }
    public IReadOnlyList<LayerSlots> Layers { get; }

    /// <summary>[hidden]</summary>
    public WeightSlot FinalNorm { get; }

    /// <summary>[vocabulary, hidden]: the output projection, which may be the embedding itself.</summary>
    public WeightSlot Output { get; }

    /// <summary>Every tensor of the Hugging Face checkpoint, in the order in which they are written.</summary>
    public IReadOnlyList<CheckpointTensor> CheckpointTensors => tensors;

    /// <summary>Elements of the flat buffer, alignment gaps included (they hold zeros).</summary>
    public long Length => length;

    /// <summary>Parameters, alignment gaps not counted.</summary>
    public long ParameterCount => slots.Sum(s => s.Length);

    /// <exception cref="KeyNotFoundException">No slot has that name.</exception>
    public WeightSlot this[string name] => byName[name];

    /// <summary>
    /// SHA-256 (hex) over names, shapes and offsets: equal exactly if two flat buffers mean the same weights.
    /// </summary>
    public string Fingerprint()
    {
        string text = string.Join('\n', tensors.Select(t => $"{t.Name} {string.Join('x', t.Shape)} {t.Offset}"));
        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));
    }

    /// <summary>Adds a layer's slots; their order here is their order in the buffer.</summary>
    private LayerSlots AddLayer(int layer)
    {
        var c = Config;
        string name = $"layers.{layer}.";
        string source = $"model.layers.{layer}.";
        string attention = source + "self_attn.";
        string mlp = source + "mlp.";
        string[] qkv = [attention + "q_proj", attention + "k_proj", attention + "v_proj"];
        string[] qkvWeights = [.. qkv.Select(n => n + ".weight")];
        string[] qkvBiases = [.. qkv.Select(n => n + ".bias")];
        long[] qkvRows = [c.QuerySize, c.KeyValueSize, c.KeyValueSize];
        string[] gateUp = [mlp + "gate_proj.weight", mlp + "up_proj.weight"];
        long[] gateUpRows = [c.IntermediateSize, c.IntermediateSize];
        long[] head = [c.HeadDimension];

        return new()
        {
            AttentionNorm = Add(name + "attention_norm", [c.HiddenSize], source + "input_layernorm.weight"),
            Qkv = AddFused(name + "qkv", c.HiddenSize, qkvWeights, qkvRows),
            QkvBias = c.QueryKeyValueBias ? AddFused(name + "qkv_bias", 0, qkvBiases, qkvRows) : null,
            QueryNorm = c.QueryKeyNorm ? Add(name + "query_norm", head, attention + "q_norm.weight") : null,
            KeyNorm = c.QueryKeyNorm ? Add(name + "key_norm", head, attention + "k_norm.weight") : null,
            Output = Add(name + "attention_output", [c.HiddenSize, c.QuerySize], attention + "o_proj.weight"),
            MlpNorm = Add(name + "mlp_norm", [c.HiddenSize], source + "post_attention_layernorm.weight"),
            GateUp = AddFused(name + "gate_up", c.HiddenSize, gateUp, gateUpRows),
            Down = Add(name + "down", [c.HiddenSize, c.IntermediateSize], mlp + "down_proj.weight"),
        };
    }

    private WeightSlot Add(string name, long[] shape, string checkpointName)
    {
        var slot = AddSlot(name, shape);
        tensors.Add(new(checkpointName, shape, slot, 0));
        return slot;
    }

    /// <summary>Stacks several tensors by rows; <paramref name="columns"/> 0 stacks vectors.</summary>
    private WeightSlot AddFused(string name, int columns, string[] checkpointNames, long[] rows)
    {
        var slot = AddSlot(name, Shape(rows.Sum()));
        long firstRow = 0;
        for (int i = 0; i < rows.Length; i++)
        {
            tensors.Add(new(checkpointNames[i], Shape(rows[i]), slot, firstRow));
            firstRow += rows[i];
        }

        return slot;

        long[] Shape(long count) => columns == 0 ? [count] : [count, columns];
    }

    private WeightSlot AddSlot(string name, long[] shape)
    {
        var slot = new WeightSlot(name, shape, length, shape.Aggregate(1L, (a, b) => checked(a * b)));
        slots.Add(slot);
        byName.Add(name, slot);
        length = checked((length + slot.Length + Alignment - 1) / Alignment * Alignment);
        return slot;
    }
}
