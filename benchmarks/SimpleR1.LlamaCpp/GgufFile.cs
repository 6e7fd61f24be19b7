using System.Text;
using SimpleR1.Models;
using static TorchSharp.torch;

namespace SimpleR1.LlamaCpp;

/// <summary>
/// Writes a Llama model as a GGUF file (ggml's format, version 3), without a tokenizer. Heads are not put in llama.cpp's
/// order, so that only its speed means anything.
/// </summary>
internal static class GgufFile
{
    private const int Alignment = 32;
    private const uint Version = 3;
    private const string NoTokenizer = "no_vocab";

    /// <param name="Shape">Innermost dimension first, as ggml counts.</param>
    private sealed record Entry(string Name, GgufType Type, long[] Shape, Tensor Values);

    /// <summary>Numbers of ggml's metadata types.</summary>
    private enum Kind : uint
    {
        UInt32 = 4,
        Float32 = 6,
        Text = 8,
    }

    /// <param name="weights">f32, of the Llama family, on the CPU.</param>
    /// <param name="type">Of all matrices; norms are f32.</param>
    public static void Write(string path, FlatWeights weights, GgufType type)
    {
        using var scope = NewDisposeScope();
        Entry[] entries = [.. Entries(weights, type)];
        using var file = File.Create(path);
        using var writer = new BinaryWriter(file, Encoding.UTF8);
        var metadata = Metadata(weights.Layout.Config);
        writer.Write("GGUF"u8);
        writer.Write(Version);
        writer.Write((ulong)entries.Length);
        writer.Write((ulong)metadata.Count);
        foreach (var (key, value) in metadata)
            WriteMetadata(writer, key, value);

        // Where each tensor lies, from the end of this list on
        long offset = 0;
        foreach (var entry in entries)
        {
            WriteText(writer, entry.Name);
            writer.Write((uint)entry.Shape.Length);
            foreach (long size in entry.Shape)
                writer.Write((ulong)size);
            writer.Write(entry.Type.Number);
            writer.Write((ulong)offset);
            offset += Aligned(entry.Type.Bytes(entry.Values.numel()));
        }
        Pad(writer);
        foreach (var entry in entries)
        {
            writer.Write(entry.Type.Encode(entry.Values.contiguous().data<float>().ToArray()));
            Pad(writer);
        }
    }

    private static List<(string Key, object Value)> Metadata(ModelConfig config) =>
        [
            ("general.architecture", "llama"),
            ("llama.context_length", (uint)config.MaxPositions),
            ("llama.embedding_length", (uint)config.HiddenSize),
            ("llama.block_count", (uint)config.Layers),
            ("llama.feed_forward_length", (uint)config.IntermediateSize),
            ("llama.attention.head_count", (uint)config.Heads),
            ("llama.attention.head_count_kv", (uint)config.KeyValueHeads),
            ("llama.attention.layer_norm_rms_epsilon", (float)config.RmsNormEpsilon),
            ("llama.rope.dimension_count", (uint)config.HeadDimension),
            ("llama.rope.freq_base", (float)config.RopeTheta),
            ("llama.vocab_size", (uint)config.VocabularySize),
            ("tokenizer.ggml.model", NoTokenizer),
        ];

    private static IEnumerable<Entry> Entries(FlatWeights weights, GgufType type)
    {
        var config = weights.Layout.Config;
        yield return Matrix("token_embd.weight", weights.Embedding);
        foreach (var layer in weights.Layers)
        {
            string block = $"blk.{layer.Index}.";
            var qkv = layer.Qkv.Weight.split([config.QuerySize, config.KeyValueSize, config.KeyValueSize], 0);
            var gateUp = layer.GateUp.Weight.split([config.IntermediateSize, config.IntermediateSize], 0);
            yield return Norm(block + "attn_norm.weight", layer.AttentionNorm);
            yield return Matrix(block + "attn_q.weight", qkv[0]);
            yield return Matrix(block + "attn_k.weight", qkv[1]);
            yield return Matrix(block + "attn_v.weight", qkv[2]);
            yield return Matrix(block + "attn_output.weight", layer.Output.Weight);
            yield return Norm(block + "ffn_norm.weight", layer.MlpNorm);
            yield return Matrix(block + "ffn_gate.weight", gateUp[0]);
            yield return Matrix(block + "ffn_up.weight", gateUp[1]);
            yield return Matrix(block + "ffn_down.weight", layer.Down.Weight);
        }
        yield return Norm("output_norm.weight", weights.FinalNorm);
        if (!config.TieEmbeddings)
            yield return Matrix("output.weight", weights.Output);

        Entry Matrix(string name, Tensor values) => new(name, type, [values.shape[1], values.shape[0]], values);
        Entry Norm(string name, Tensor values) => new(name, GgufType.F32, values.shape, values);
    }

    private static void WriteMetadata(BinaryWriter writer, string key, object value)
    {
        WriteText(writer, key);
        switch (value)
        {
            case string text:
                writer.Write((uint)Kind.Text);
                WriteText(writer, text);
                break;
            case uint number:
                writer.Write((uint)Kind.UInt32);
                writer.Write(number);
                break;
            default:
                writer.Write((uint)Kind.Float32);
                writer.Write((float)value);
                break;
        }
    }

    private static void WriteText(BinaryWriter writer, string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        writer.Write((ulong)bytes.Length);
        writer.Write(bytes);
    }

    private static long Aligned(long bytes) => (bytes + Alignment - 1) / Alignment * Alignment;

    private static void Pad(BinaryWriter writer)
    {
        long at = writer.BaseStream.Position;
        writer.Write(new byte[Aligned(at) - at]);
    }
}
