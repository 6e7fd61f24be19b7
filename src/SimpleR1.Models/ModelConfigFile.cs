using System.Text.Json;
using System.Text.Json.Nodes;
using SimpleR1.Models.Checkpoints;

namespace SimpleR1.Models;

/// <summary>Hugging Face <c>config.json</c> ↔ <see cref="ModelConfig"/>. What would change the computation and isn't supported throws, by name.</summary>
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

    /// <summary>Reads <c>config.json</c>, and the end-of-sequence ids of <c>generation_config.json</c> where present.</summary>
    /// <exception cref="FileNotFoundException">The folder has no config.json.</exception>
    /// <exception cref="NotSupportedException">Architecture or option unknown or unsupported; all of them are named.</exception>
    /// <exception cref="InvalidDataException">A size is missing or makes no sense.</exception>
    public static ModelConfig Load(string folder)
    {
        string path = Path.Combine(folder, "config.json"),
            generation = Path.Combine(folder, "generation_config.json");
        if (!File.Exists(path))
            throw new FileNotFoundException(
                Directory.Exists(folder)
                    ? $"{path}: not found. A model folder holds config.json, tokenizer.json and model.safetensors."
                    : $"{folder}: no such folder. Give the path of a Hugging Face model folder (config.json, tokenizer.json, model.safetensors).",
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
        var family = architecture switch
        {
            "LlamaForCausalLM" => ModelFamily.Llama,
            "Qwen2ForCausalLM" => ModelFamily.Qwen2,
            "Qwen3ForCausalLM" => ModelFamily.Qwen3,
            _ => throw new NotSupportedException(
                $"architecture '{architecture}' is not supported (LlamaForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM are)"
            ),
        };
        var unread = json.Select(p => p.Key).Where(k => !Harmless.Contains(k)).ToHashSet();
        T Read<T>(string key, T? otherwise = default)
            where T : struct
        {
            unread.Remove(key);
            return json[key] is { } value
                ? value.GetValue<T>()
                : otherwise ?? throw new InvalidDataException($"'{key}' is missing");
        }
        int Size(string key, int? otherwise = null)
        {
            int n = Read(key, otherwise);
            return n > 0 ? n : throw new InvalidDataException($"'{key}': expected a positive size, found {n}");
        }
        var problems = new List<string>();
        void Expect(string key, string expected)
        {
            unread.Remove(key);
            if (json[key] is { } found && found.ToJsonString().Trim('"') != expected)
                problems.Add($"'{key}': {found.ToJsonString()} (only {expected} is supported)");
        }
        Expect("hidden_act", "silu");
        Expect("mlp_bias", "false");
        Expect("use_sliding_window", "false");
        Expect("pretraining_tp", "1");
        Expect("partial_rotary_factor", "1.0");
        if (family != ModelFamily.Qwen2)
            Expect("attention_bias", "false");
        unread.Remove("layer_types");
        if (json["layer_types"] is JsonArray types && types.Any(t => (string?)t != "full_attention"))
            problems.Add("'layer_types': only full_attention is supported");

        int hidden = Size("hidden_size"),
            heads = Size("num_attention_heads");
        var (theta, scaling) = ReadRope(json, unread, problems);
        var config = new ModelConfig
        {
            Family = family,
            VocabularySize = Size("vocab_size"),
            HiddenSize = hidden,
            IntermediateSize = Size("intermediate_size"),
            Layers = Size("num_hidden_layers"),
            Heads = heads,
            KeyValueHeads = Size("num_key_value_heads", heads),
            HeadDimension = Size(
                "head_dim",
                family == ModelFamily.Qwen3 ? 128
                    : hidden % heads == 0 ? hidden / heads
                    : null
            ), // Qwen3 has a default of its own
            MaxPositions = Size("max_position_embeddings", 2048),
            RmsNormEpsilon = Read<double>("rms_norm_eps", 1e-6),
            RopeTheta = theta,
            RopeScaling = scaling,
            TieEmbeddings = Read<bool>("tie_word_embeddings", false),
            QueryKeyValueBias = family == ModelFamily.Qwen2,
            QueryKeyNorm = family == ModelFamily.Qwen3,
            BosTokenId = json["bos_token_id"] is JsonValue bos ? bos.GetValue<int>() : null,
            EosTokenIds = EndIds(
                generationConfigJson is null ? null : JsonNode.Parse(generationConfigJson)?["eos_token_id"],
                json["eos_token_id"]
            ),
        };
        unread.Remove("head_dim");
        problems.AddRange(unread.Select(k => $"'{k}': {json[k]?.ToJsonString() ?? "null"} (unknown option)"));
        if (problems.Count > 0)
            throw new NotSupportedException("options that are not supported: " + string.Join("; ", problems));
        if (config.Heads % config.KeyValueHeads != 0)
            throw new InvalidDataException(
                $"{config.Heads} attention heads can't share {config.KeyValueHeads} key/value heads evenly"
            );
        if (config.HeadDimension % 2 != 0)
            throw new InvalidDataException(
                $"'head_dim': rotary embeddings need an even size, found {config.HeadDimension}"
            );
        return config;
    }

    private static (double Theta, Llama3RopeScaling? Scaling) ReadRope(
        JsonObject json,
        HashSet<string> unread,
        List<string> problems
    )
    {
        foreach (string key in new[] { "rope_theta", "rope_scaling", "rope_parameters" })
            unread.Remove(key);
        var parameters = (json["rope_parameters"] ?? json["rope_scaling"]) as JsonObject;
        double theta = (parameters?["rope_theta"] ?? json["rope_theta"])?.GetValue<double>() ?? 10_000;
        string type = (string?)(parameters?["rope_type"] ?? parameters?["type"]) ?? "default";
        if (type == "default")
            return (theta, null);
        if (type != "llama3")
        {
            problems.Add($"rope type '{type}' (default and llama3 are supported)");
            return (theta, null);
        }
        double Get(string key) =>
            parameters![key]?.GetValue<double>()
            ?? throw new InvalidDataException($"llama3 rope scaling: '{key}' is missing");
        return (
            theta,
            new(
                Get("factor"),
                Get("low_freq_factor"),
                Get("high_freq_factor"),
                (int)Get("original_max_position_embeddings")
            )
        );
    }

    private static int[] EndIds(params JsonNode?[] candidates) =>
        candidates.FirstOrDefault(c => c is not null) switch
        {
            JsonArray list => [.. list.Select(v => v!.GetValue<int>())],
            JsonValue single => [single.GetValue<int>()],
            _ => [],
        };

    /// <summary>A <c>config.json</c> that transformers reads.</summary>
    /// <param name="type">Of the weights beside it.</param>
    public static string ToJson(ModelConfig c, WeightType type = WeightType.F32)
    {
        var json = new JsonObject
        {
            ["architectures"] = new JsonArray($"{c.Family}ForCausalLM"),
            ["model_type"] = c.Family.ToString().ToLowerInvariant(),
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
            ["torch_dtype"] = type switch
            {
                WeightType.F32 => "float32",
                WeightType.F16 => "float16",
                _ => "bfloat16",
            },
        };
        if (c.RopeScaling is { } s)
            json["rope_scaling"] = new JsonObject
            {
                ["rope_type"] = "llama3",
                ["factor"] = s.Factor,
                ["low_freq_factor"] = s.LowFrequencyFactor,
                ["high_freq_factor"] = s.HighFrequencyFactor,
                ["original_max_position_embeddings"] = s.OriginalMaxPositions,
            };
        if (c.BosTokenId is { } bos)
            json["bos_token_id"] = bos;
        if (c.EosTokenIds.Count > 0)
            json["eos_token_id"] =
                c.EosTokenIds.Count == 1
                    ? c.EosTokenIds[0]
                    : new JsonArray([.. c.EosTokenIds.Select(i => (JsonNode)i)]);
        return json.ToJsonString(new() { WriteIndented = true });
    }
}
