using System.Text;

namespace SimpleR1.Models;

/// <summary>One tensor inside the flat buffer. <paramref name="Offset"/> and <paramref name="Length"/> count elements.</summary>
public sealed record WeightSlot(string Name, long[] Shape, long Offset, long Length);

/// <summary>
/// One Hugging Face tensor and where it lives: rows <paramref name="FirstRow"/> .. of slot <paramref name="Slot"/>.
/// Fusing (q, k, v into one matrix; gate, up into one) happens only here, when a checkpoint is read or written.
/// </summary>
public sealed record CheckpointTensor(string Name, long[] Shape, WeightSlot Slot, long FirstRow)
{
    /// <summary>Offset of its first element in the flat buffer.</summary>
    public long Offset => Slot.Offset + FirstRow * (Slot.Length / Slot.Shape[0]);
    public long Length => Shape.Aggregate(1L, (a, b) => a * b);
}

/// <summary>
/// Where every parameter of a model lies in one contiguous buffer, in the order and fusion that the forward pass computes with.
/// Pure data: two processes with equal configs get equal layouts, and <see cref="Fingerprint"/> proves it.
/// </summary>
public sealed class WeightLayout
{
    /// <summary>Slots start at multiples of this many elements, so that every view is aligned for vector loads (256 bytes in f32).</summary>
    public const int Alignment = 64;

    private readonly List<WeightSlot> slots = [];
    private readonly List<CheckpointTensor> tensors = [];
    private readonly Dictionary<string, WeightSlot> byName = [];
    private long length;

    public WeightLayout(ModelConfig config)
    {
        Config = config;
        int hidden = config.HiddenSize;
        Add("embedding", [config.VocabularySize, hidden], "model.embed_tokens.weight");
        for (int i = 0; i < config.Layers; i++)
        {
            string to = $"layers.{i}.",
                from = $"model.layers.{i}.";
            Add(to + "attention_norm", [hidden], from + "input_layernorm.weight");
            string[] qkv = [from + "self_attn.q_proj", from + "self_attn.k_proj", from + "self_attn.v_proj"];
            long[] rows = [config.QuerySize, config.KeyValueSize, config.KeyValueSize];
            AddFused(to + "qkv", hidden, [.. qkv.Select(n => n + ".weight")], rows);
            if (config.QueryKeyValueBias)
                AddFused(to + "qkv_bias", 0, [.. qkv.Select(n => n + ".bias")], rows);
            if (config.QueryKeyNorm)
            {
                Add(to + "query_norm", [config.HeadDimension], from + "self_attn.q_norm.weight");
                Add(to + "key_norm", [config.HeadDimension], from + "self_attn.k_norm.weight");
            }
            Add(to + "attention_output", [hidden, config.QuerySize], from + "self_attn.o_proj.weight");
            Add(to + "mlp_norm", [hidden], from + "post_attention_layernorm.weight");
            AddFused(
                to + "gate_up",
                hidden,
                [from + "mlp.gate_proj.weight", from + "mlp.up_proj.weight"],
                [config.IntermediateSize, config.IntermediateSize]
            );
            Add(to + "down", [hidden, config.IntermediateSize], from + "mlp.down_proj.weight");
        }
        Add("final_norm", [hidden], "model.norm.weight");
        if (!config.TieEmbeddings)
            Add("output", [config.VocabularySize, hidden], "lm_head.weight");
    }

    public ModelConfig Config { get; }
    public IReadOnlyList<WeightSlot> Slots => slots;

    /// <summary>Every tensor of the Hugging Face checkpoint, in the order it is written.</summary>
    public IReadOnlyList<CheckpointTensor> CheckpointTensors => tensors;

    /// <summary>Elements of the flat buffer, alignment gaps included (they hold zeros).</summary>
    public long Length => length;

    /// <summary>Parameters, alignment gaps not counted.</summary>
    public long ParameterCount => slots.Sum(s => s.Length);

    /// <exception cref="KeyNotFoundException">No slot has that name.</exception>
    public WeightSlot this[string name] => byName[name];

    /// <summary>SHA-256 (hex) over names, shapes and offsets: equal exactly where two flat buffers mean the same weights.</summary>
    public string Fingerprint()
    {
        string text = string.Join('\n', tensors.Select(t => $"{t.Name} {string.Join('x', t.Shape)} {t.Offset}"));
        return Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(Encoding.UTF8.GetBytes(text)));
    }

    private WeightSlot AddSlot(string name, long[] shape)
    {
        var slot = new WeightSlot(name, shape, length, shape.Aggregate(1L, (a, b) => checked(a * b)));
        slots.Add(slot);
        byName.Add(name, slot);
        length = checked((length + slot.Length + Alignment - 1) / Alignment * Alignment);
        return slot;
    }

    private void Add(string name, long[] shape, string checkpointName) =>
        tensors.Add(new(checkpointName, shape, AddSlot(name, shape), 0));

    /// <summary>Stacks several tensors by rows; <paramref name="columns"/> 0 stacks vectors.</summary>
    private void AddFused(string name, int columns, string[] checkpointNames, long[] rows)
    {
        var slot = AddSlot(name, columns == 0 ? [rows.Sum()] : [rows.Sum(), columns]);
        long first = 0;
        for (int i = 0; i < rows.Length; i++)
        {
            tensors.Add(new(checkpointNames[i], columns == 0 ? [rows[i]] : [rows[i], columns], slot, first));
            first += rows[i];
        }
    }
}
