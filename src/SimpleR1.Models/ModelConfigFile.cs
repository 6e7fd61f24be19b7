using System.Text.Json;
using System.Text.Json.Nodes;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors;

namespace SimpleR1.Models;

/// <summary>
/// Hugging Face <c>config.json</c> ↔ <see cref="ModelConfig"/>. An option that would change the computation and isn't
/// supported throws, by name.
/// </summary>
public static class ModelConfigFile
{
    /// <summary>Keys that do not change what the decoder computes.</summary>
    private static readonly HashSet<string> Harmless =
    [
        "architectures",
        "model_type",
        "dtype",
        "torch_dtype",
        "transformers_version",
        "use_cache",
        "initializer_range",
        "attention_dropout",
        "hidden_dropout",
        "resid_pdrop",
        "embd_pdrop",
        "attn_pdrop",
        "_name_or_path",
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
        "unk_token_id",
        "max_window_layers",
        "sliding_window",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "is_decoder",
        "id2label",
        "label2id",
        "tokenizer_class",
        "auto_map",
        "use_mrope",
        "gradient_checkpointing",
        "_attn_implementation",
        "attn_implementation",
        "task_specific_params",
        "cross_attention_hidden_size",
        "is_encoder_decoder",
        "problem_type",
        "chunk_size_feed_forward",
        "is_llama_config",
        "rope_interleaved",
        "transformers.js_config",
    ];

    /// <summary>
    /// Reads <c>config.json</c>, and the end-of-sequence ids of <c>generation_config.json</c> if present.
    /// </summary>
    /// <exception cref="FileNotFoundException">The folder has no config.json.</exception>
    /// <exception cref="NotSupportedException">
    /// The architecture or an option is unknown or unsupported; all are named.
    /// </exception>
    /// <exception cref="InvalidDataException">A size is missing or makes no sense.</exception>
    public static ModelConfig Load(string folder)
    {
        string path = Path.Combine(folder, "config.json");
        string generation = Path.Combine(folder, "generation_config.json");
        if (!File.Exists(path))
            throw new FileNotFoundException(
                Directory.Exists(folder)
                    ? $"{path}: not found. A model folder holds config.json, tokenizer.json and model.safetensors."
                    : $"{folder}: no such folder. Give the path of a Hugging Face model folder "
                        + "(config.json, tokenizer.json, model.safetensors).",
                path
            );

        try
        {
            return Parse(File.ReadAllText(path), File.Exists(generation) ? File.ReadAllText(generation) : null);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException)
        {
            throw new InvalidDataException($"{path}: not a model config: {e.Message}", e);
        }
        catch (Exception e) when (e is NotSupportedException or InvalidDataException)
        {
            throw (Exception)Activator.CreateInstance(e.GetType(), $"{path}: {e.Message}", e)!;
        }
    }

    /// <inheritdoc cref="Load"/>
    public static ModelConfig Parse(string configJson, string? generationConfigJson = null)
    {
        var json = JsonNode.Parse(configJson) as JsonObject ?? throw new InvalidDataException("expected a JSON object");
        string architecture = (string?)(json["architectures"] as JsonArray)?.FirstOrDefault() ?? "";
        var family = ModelFamily.OfArchitecture(architecture);
        var reader = new Reader(json);

        RequireWhatIsComputed(reader, family);
        var config = Read(reader, family) with
        {
            EosTokenIds = EndIds(
                generationConfigJson is null ? null : JsonNode.Parse(generationConfigJson)?["eos_token_id"],
                json["eos_token_id"]
            ),
        };
        reader.RefuseUnread();
        Check(config);
        return config;
    }

    /// <summary>Options with a single value that the decoder computes.</summary>
    private static void RequireWhatIsComputed(Reader reader, ModelFamily family)
    {
        reader.Require("hidden_act", "silu");
        reader.Require("mlp_bias", "false");
        reader.Require("use_sliding_window", "false");
        reader.Require("pretraining_tp", "1");
        reader.Require("partial_rotary_factor", "1.0");
        if (!family.QueryKeyValueBias)
            reader.Require("attention_bias", "false");
        if (reader.Take("layer_types") is JsonArray types && types.Any(t => (string?)t != "full_attention"))
            reader.Problems.Add("'layer_types': only full_attention is supported");
    }

    private static ModelConfig Read(Reader reader, ModelFamily family)
    {
        int hidden = reader.Size("hidden_size");
        int heads = reader.Size("num_attention_heads");
        int? headDimension = family.DefaultHeadDimension;
        if (headDimension is null && hidden % heads == 0)
            headDimension = hidden / heads;
        var (theta, scaling) = ReadRope(reader);

        return new()
        {
            Family = family,
            VocabularySize = reader.Size("vocab_size"),
            HiddenSize = hidden,
            IntermediateSize = reader.Size("intermediate_size"),
            Layers = reader.Size("num_hidden_layers"),
            Heads = heads,
            KeyValueHeads = reader.Size("num_key_value_heads", heads),
            HeadDimension = reader.Size("head_dim", headDimension),
            MaxPositions = reader.Size("max_position_embeddings", 2048),
            RmsNormEpsilon = reader.Value<double>("rms_norm_eps", 1e-6),
            RopeTheta = theta,
            RopeScaling = scaling,
            TieEmbeddings = reader.Value<bool>("tie_word_embeddings", false),
            BosTokenId = reader.Take("bos_token_id") is JsonValue bos ? bos.GetValue<int>() : null,
        };
    }

    private static void Check(ModelConfig config)
    {
        if (config.Heads % config.KeyValueHeads != 0)
            throw new InvalidDataException(
                $"{config.Heads} attention heads can't share {config.KeyValueHeads} key/value heads evenly"
            );
        if (config.HeadDimension % 2 != 0)
            throw new InvalidDataException(
                $"'head_dim': rotary embeddings need an even size, found {config.HeadDimension}"
            );
    }

    private static (double Theta, Llama3RopeScaling? Scaling) ReadRope(Reader reader)
    {
        var topLevelTheta = reader.Take("rope_theta");
        var oldScaling = reader.Take("rope_scaling");
        var parameters = (reader.Take("rope_parameters") ?? oldScaling) as JsonObject;
        double theta = (parameters?["rope_theta"] ?? topLevelTheta)?.GetValue<double>() ?? 10_000;
        string type = (string?)(parameters?["rope_type"] ?? parameters?["type"]) ?? "default";
        if (type == "default")
            return (theta, null);
        if (type != "llama3")
        {
            reader.Problems.Add($"rope type '{type}' (default and llama3 are supported)");
            return (theta, null);
        }

        var scaling = new Llama3RopeScaling(
            Get("factor"),
            Get("low_freq_factor"),
            Get("high_freq_factor"),
            (int)Get("original_max_position_embeddings")
        );
        return (theta, scaling);

        double Get(string key) =>
            parameters![key]?.GetValue<double>()
            ?? throw new InvalidDataException($"llama3 rope scaling: '{key}' is missing");
    }

    private static int[] EndIds(params JsonNode?[] candidates) =>
        candidates.FirstOrDefault(c => c is not null) switch
        {
            JsonArray list => [.. list.Select(v => v!.GetValue<int>())],
            JsonValue single => [single.GetValue<int>()],
            _ => [],
        };

    /// <summary>A <c>config.json</c> that transformers reads.</summary>
    /// <param name="type">Element type of the weights next to the file.</param>
    public static string ToJson(ModelConfig c, WeightType type = WeightType.F32)
    {
        var json = new JsonObject
        {
            ["architectures"] = new JsonArray(c.Family.Architecture),
            ["model_type"] = c.Family.Name,
            ["vocab_size"] = c.VocabularySize,
            ["hidden_size"] = c.HiddenSize,
            ["intermediate_size"] = c.IntermediateSize,
            ["num_hidden_layers"] = c.Layers,
            ["num_attention_heads"] = c.Heads,
            ["num_key_value_heads"] = c.KeyValueHeads,
            ["head_dim"] = c.HeadDimension,
            ["max_position_embeddings"] = c.MaxPositions,
            ["rms_norm_eps"] = c.RmsNormEpsilon,
            ["rope_theta"] = c.RopeTheta,
            ["hidden_act"] = "silu",
            ["tie_word_embeddings"] = c.TieEmbeddings,
            ["torch_dtype"] = TorchName(type),
        };
        if (c.RopeScaling is { } scaling)
            json["rope_scaling"] = RopeScaling(scaling);
        if (c.BosTokenId is { } bos)
            json["bos_token_id"] = bos;
        if (c.EosTokenIds is [var only])
            json["eos_token_id"] = only;
        else if (c.EosTokenIds.Count > 1)
            json["eos_token_id"] = new JsonArray([.. c.EosTokenIds.Select(i => (JsonNode)i)]);

        return json.ToJsonString(new() { WriteIndented = true });
    }

    private static string TorchName(WeightType type) =>
        ElementType.All.First(t => t.SafetensorsName == type.ToString()).TorchName;

    private static JsonObject RopeScaling(Llama3RopeScaling scaling) =>
        new()
        {
            ["rope_type"] = "llama3",
            ["factor"] = scaling.Factor,
            ["low_freq_factor"] = scaling.LowFrequencyFactor,
            ["high_freq_factor"] = scaling.HighFrequencyFactor,
            ["original_max_position_embeddings"] = scaling.OriginalMaxPositions,
        };

    /// <summary>
    /// A config's keys, and which of them nothing has read yet: an option that is not read may not be ignored.
    /// </summary>
    private sealed class Reader(JsonObject json)
    {
        private readonly HashSet<string> unread = [.. json.Select(p => p.Key).Where(k => !Harmless.Contains(k))];

        /// <summary>Options that are not supported, each with its key and value.</summary>
        public List<string> Problems { get; } = [];

        /// <summary>A key's value, which counts as read; null where it is absent.</summary>
        public JsonNode? Take(string key)
        {
            unread.Remove(key);
            return json[key];
        }

        public T Value<T>(string key, T? otherwise = default)
            where T : struct =>
            Take(key) is { } value
                ? value.GetValue<T>()
                : otherwise ?? throw new InvalidDataException($"'{key}' is missing");

        public int Size(string key, int? otherwise = null)
        {
            int size = Value(key, otherwise);
            return size > 0 ? size : throw new InvalidDataException($"'{key}': expected a positive size, found {size}");
        }

        /// <summary>A value other than <paramref name="expected"/> is a problem; an absent key is none.</summary>
        public void Require(string key, string expected)
        {
            if (Take(key) is { } found && found.ToJsonString().Trim('"') != expected)
                Problems.Add($"'{key}': {found.ToJsonString()} (only {expected} is supported)");
        }

        /// <exception cref="NotSupportedException">An option is not supported, or nothing has read it.</exception>
        public void RefuseUnread()
        {
            Problems.AddRange(unread.Select(k => $"'{k}': {json[k]?.ToJsonString() ?? "null"} (unknown option)"));
            if (Problems.Count > 0)
                throw new NotSupportedException("options that are not supported: " + string.Join("; ", Problems));
        }
    }
}
