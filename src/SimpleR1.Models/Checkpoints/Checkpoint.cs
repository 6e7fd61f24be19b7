using System.Text.Json;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Models.Checkpoints;

/// <summary>Hugging Face model folders ↔ flat weights. Here, and only here, tensors are fused and split.</summary>
public static unsafe class Checkpoint
{
    private const string Embedding = "model.embed_tokens.weight",
        Output = "lm_head.weight";
    private static readonly string[] Companions =
    [
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
        "LICENSE",
    ];

    /// <summary>The weights of a model folder, in f32 on the CPU.</summary>
    /// <exception cref="FileNotFoundException">A file is missing.</exception>
    /// <exception cref="InvalidDataException">A file is damaged, or tensors are missing, unexpected or of another shape; all are listed.</exception>
    public static FlatWeights Load(string folder) =>
        Load(folder, new(new WeightLayout(ModelConfigFile.Load(folder)), ScalarType.Float32, CPU));

    /// <summary>The weights of a model folder, in this type on a GPU.</summary>
    /// <inheritdoc cref="Load(string)"/>
    public static FlatWeights Load(string folder, ScalarType type, CudaDevice gpu) =>
        Load(folder, new(new WeightLayout(ModelConfigFile.Load(folder)), type, gpu));

    private static FlatWeights Load(string folder, FlatWeights weights)
    {
        try
        {
            ReadInto(folder, weights);
        }
        catch
        {
            weights.Dispose();
            throw;
        }
        return weights;
    }

    /// <inheritdoc cref="Load(string)"/>
    public static void ReadInto(string folder, FlatWeights weights)
    {
        var files = OpenAll(folder);
        try
        {
            var found = new Dictionary<string, (SafetensorsFile File, SafetensorsEntry Entry)>();
            foreach (var file in files)
            foreach (var entry in file.Entries.Values)
                if (!found.TryAdd(entry.Name, (file, entry)))
                    throw new InvalidDataException(
                        $"{folder}: tensor '{entry.Name}' is in {found[entry.Name].File.Path} and in {file.Path}"
                    );
            // A tied pair is one tensor, and some writers keep it under its other name.
            if (
                weights.Layout.Config.TieEmbeddings
                && !found.ContainsKey(Embedding)
                && found.Remove(Output, out var shared)
            )
                found[Embedding] = shared;
            Check(folder, weights.Layout, found.ToDictionary(p => p.Key, p => p.Value.Entry));
            using var upload = weights.Device is { } gpu ? new DeviceUpload(gpu) : null;
            var type = NumberConversion.Of(weights.Flat.dtype);
            foreach (var tensor in weights.Layout.CheckpointTensors)
            {
                var (file, entry) = found[tensor.Name];
                if (upload is null)
                    file.Read(entry, (float*)weights.Pointer + tensor.Offset);
                else
                    file.Read(
                        entry,
                        upload,
                        weights.Pointer + (nint)(tensor.Offset * NumberConversion.Size(type)),
                        type
                    );
            }
        }
        finally
        {
            foreach (var file in files)
                file.Dispose();
        }
    }

    /// <summary>Writes a model folder that other tools load: weights, config, and the tokenizer's files copied from <paramref name="source"/>.</summary>
    public static void Write(
        string folder,
        FlatWeights weights,
        WeightType type,
        string? source,
        long shardBytes = 5_000_000_000
    )
    {
        Directory.CreateDirectory(folder);
        SafetensorsWriter.WriteFolder(
            folder,
            [
                .. weights.Layout.CheckpointTensors.Select(t => new SafetensorsWriter.Source(
                    t.Name,
                    t.Shape,
                    weights.Pointer + (nint)(4 * t.Offset)
                )),
            ],
            type,
            shardBytes
        );
        File.WriteAllText(Path.Combine(folder, "config.json"), ModelConfigFile.ToJson(weights.Layout.Config, type));
        foreach (string name in Companions)
            if (
                source is not null
                && Path.GetFullPath(source) != Path.GetFullPath(folder)
                && File.Exists(Path.Combine(source, name))
            )
                File.Copy(Path.Combine(source, name), Path.Combine(folder, name), overwrite: true);
    }

    private static List<SafetensorsFile> OpenAll(string folder)
    {
        string single = Path.Combine(folder, "model.safetensors"),
            index = single + ".index.json";
        if (File.Exists(single))
            return [SafetensorsFile.Open(single)];
        if (!File.Exists(index))
            throw new FileNotFoundException(
                $"{single}: not found, nor {Path.GetFileName(index)}. Weights must be in safetensors (convert with transformers' save_pretrained).",
                single
            );
        using var document = JsonDocument.Parse(File.ReadAllBytes(index));
        var files = new List<SafetensorsFile>();
        foreach (
            string name in document
                .RootElement.GetProperty("weight_map")
                .EnumerateObject()
                .Select(p => p.Value.GetString()!)
                .Distinct()
        )
        {
            string path = Path.Combine(folder, Path.GetFileName(name));
            if (!File.Exists(path))
                throw new FileNotFoundException(
                    $"{path}: not found, but {Path.GetFileName(index)} names it. Download the missing shard.",
                    path
                );
            files.Add(SafetensorsFile.Open(path));
        }
        return files;
    }

    private static void Check(string folder, WeightLayout layout, Dictionary<string, SafetensorsEntry> found)
    {
        var problems = new List<string>();
        foreach (var wanted in layout.CheckpointTensors)
        {
            if (!found.Remove(wanted.Name, out var entry))
                problems.Add($"'{wanted.Name}': missing, expected shape [{string.Join(", ", wanted.Shape)}]");
            else if (!entry.Shape.SequenceEqual(wanted.Shape))
                problems.Add(
                    $"'{wanted.Name}': expected shape [{string.Join(", ", wanted.Shape)}] from config.json, found [{string.Join(", ", entry.Shape)}]"
                );
            else if (entry.Type is not ("F32" or "F16" or "BF16"))
                problems.Add($"'{wanted.Name}': expected dtype F32, F16 or BF16, found {entry.Type}");
        }
        // A tied checkpoint may repeat its embedding as lm_head, and old ones hold rotary tables: both are recomputed here.
        problems.AddRange(
            found
                .Keys.Where(n =>
                    !(n == Output && layout.Config.TieEmbeddings)
                    && !n.EndsWith("rotary_emb.inv_freq", StringComparison.Ordinal)
                )
                .Select(n => $"'{n}': unexpected, this architecture has no such tensor")
        );
        if (problems.Count == 0)
            return;
        string rest = problems.Count > 12 ? $"\n  and {problems.Count - 12} more" : "";
        throw new InvalidDataException(
            $"{folder}: the tensors do not fit config.json:\n  {string.Join("\n  ", problems.Take(12))}{rest}"
        );
    }
}
