using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Models.Json;
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
    /// <exception cref="InvalidDataException">A value is missing or makes no sense; named, with its line.</exception>
    public static ModelConfig Load(string folder)
    {
        folder = ModelFolder.Resolve(folder);
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
        return Read(ModelFile.Read(path), File.Exists(generation) ? ModelFile.Read(generation) : null);
    }

    /// <inheritdoc cref="Load"/>
    public static ModelConfig Parse(string configJson, string? generationConfigJson = null) =>
        Read(
            new ModelFile("config.json", Encoding.UTF8.GetBytes(configJson)),
            generationConfigJson is null
                ? null
                : new ModelFile("generation_config.json", Encoding.UTF8.GetBytes(generationConfigJson))
        );

    private static ModelConfig Read(ModelFile file, ModelFile? generation)
    {
        var config = file.Parse("a model config", root => Read(root, file.Path));
        var ids = generation?.Parse("a generation config", root => EndIds(root, config.VocabularySize));
        return ids is null ? config : config with { EosTokenIds = ids };
    }

    private static ModelConfig Read(JsonSection root, string path)
    {
        var architectures = root.List("architectures", root.TextOf);
        if (architectures.Count == 0)
            throw root.Problem("architectures", "missing, expected a list with the model's architecture");
        ModelFamily family;
        try
        {
            family = ModelFamily.OfArchitecture(architectures[0]);
        }
        catch (NotSupportedException e)
        {
            throw root.Unsupported("architectures", e.Message);
        }

        var reader = new Reader(root);
        RequireWhatIsComputed(reader, family);
        var config = Read(reader, family);
        config = config with { EosTokenIds = EndIds(root, config.VocabularySize) ?? [] };
        reader.RefuseUnread(path);
        Check(config, root);
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
        if (reader.Root.List("layer_types", reader.Root.TextOf).Any(type => type != "full_attention"))
            reader.Problems.Add(
                $"'layer_types': only full_attention is supported{reader.Root.LineNote("layer_types")}"
            );
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
            RmsNormEpsilon = reader.Root.Number("rms_norm_eps", 1e-6),
            RopeTheta = theta,
            RopeScaling = scaling,
            TieEmbeddings = reader.Root.Flag("tie_word_embeddings", false),
            BosTokenId = reader.Root.WholeOrNull("bos_token_id"),
        };
    }

    private static void Check(ModelConfig config, JsonSection root)
    {
        if (config.Heads % config.KeyValueHeads != 0)
            throw root.Problem(
                "num_key_value_heads",
                $"{config.Heads} attention heads can't share {config.KeyValueHeads} key/value heads evenly"
            );
        if (config.HeadDimension % 2 != 0)
            throw root.Problem("head_dim", $"rotary embeddings need an even size, found {config.HeadDimension}");
        if (config.RmsNormEpsilon < 0)
            throw root.Problem("rms_norm_eps", $"expected 0 or more, found {config.RmsNormEpsilon}");
        if (config.RopeTheta <= 0)
            throw root.Problem("rope_theta", $"expected above 0, found {config.RopeTheta}");
    }

    /// <summary>Rotary embedding, under its new key <c>rope_parameters</c> or its old ones.</summary>
    private static (double Theta, Llama3RopeScaling? Scaling) ReadRope(Reader reader)
    {
        var root = reader.Root;
        if (root.Has("rope_parameters") && root.Has("rope_scaling"))
        {
            bool same = JsonElement.DeepEquals(root.Take("rope_parameters"), root.Take("rope_scaling"));
            if (!same)
                throw root.Problem("rope_scaling", "it says something else than rope_parameters; remove one of them");
        }

        double theta = root.Number("rope_theta", 10_000);
        var parameters = root.SectionOrNull("rope_parameters") ?? root.SectionOrNull("rope_scaling");
        if (parameters is null)
            return (theta, null);

        double inner = parameters.Number("rope_theta", theta);
        if (root.Has("rope_theta") && inner != theta)
            throw parameters.Problem("rope_theta", $"{inner}, but config.json's own rope_theta is {theta}; remove one");
        if (parameters.Number("partial_rotary_factor", 1) != 1)
            throw parameters.Unsupported("partial_rotary_factor", "only 1.0 is supported");

        // Files of old call the type "type".
        string? oldType = parameters.TextOrNull("type");
        string type = parameters.TextOrNull("rope_type") ?? oldType ?? "default";
        var scaling = type == "llama3" ? ReadLlama3(parameters) : null;
        if (type is not ("default" or "llama3"))
            reader.Problems.Add($"rope type '{type}' (default and llama3 are supported)");
        else
            reader.Problems.AddRange(parameters.Unread());
        return (inner, scaling);
    }

    private static Llama3RopeScaling ReadLlama3(JsonSection parameters) =>
        new(
            parameters.Number("factor"),
            parameters.Number("low_freq_factor"),
            parameters.Number("high_freq_factor"),
            parameters.Whole("original_max_position_embeddings")
        );

    /// <summary>The ids that end a completion: one, or a list; null where the file names none.</summary>
    private static IReadOnlyList<int>? EndIds(JsonSection root, int vocabulary)
    {
        const string key = "eos_token_id";
        if (!root.Has(key))
            return null;
        bool isList = root.Take(key).ValueKind == JsonValueKind.Array;
        IReadOnlyList<int> ids = isList ? root.WholeNumbers(key) : [root.Whole(key)];
        foreach (int id in ids.Where(id => id < 0 || id >= vocabulary))
            throw root.Problem(
                key,
                $"{id} is outside the vocabulary of {vocabulary} (vocab_size): no token has that id"
            );
        return ids;
    }

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

    /// <summary>A config's keys: an option that is not read may not be ignored.</summary>
    private sealed class Reader
    {
        public Reader(JsonSection root)
        {
            Root = root;
            foreach (string key in Harmless)
                root.Take(key);
        }

        public JsonSection Root { get; }

        /// <summary>Options that are not supported, each with its key and value.</summary>
        public List<string> Problems { get; } = [];

        public int Size(string key, int? otherwise = null)
        {
            int size = Root.Whole(key, otherwise);
            return size > 0 ? size : throw Root.Problem(key, $"expected a positive size, found {size}");
        }

        /// <summary>A value other than <paramref name="expected"/> is a problem; an absent key is none.</summary>
        public void Require(string key, string expected)
        {
            if (!Root.Has(key))
                return;
            string found = Root.Take(key).GetRawText();
            if (found.Trim('"') != expected && found + ".0" != expected)
                Problems.Add($"'{key}': {found} (only {expected} is supported){Root.LineNote(key)}");
        }

        /// <exception cref="NotSupportedException">An option is not supported, or nothing has read it.</exception>
        public void RefuseUnread(string path)
        {
            Problems.AddRange(Root.Unread());
            if (Problems.Count > 0)
                throw new NotSupportedException(
                    $"{path}: options that are not supported: {string.Join("; ", Problems)}"
                );
        }
    }
}
