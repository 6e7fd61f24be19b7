using SimpleR1.Models.Json;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Models.Checkpoints;

/// <summary>Hugging Face model folders ↔ flat weights. Here, and only here, tensors are fused and split.</summary>
public static unsafe class Checkpoint
{
    private const string Embedding = "model.embed_tokens.weight";
    private const string Output = "lm_head.weight";
    private const int MostProblemsListed = 12;

    /// <summary>Files that are copied with the weights.</summary>
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

    /// <summary>Loads the weights of a model folder, in f32 on the CPU.</summary>
    /// <exception cref="FileNotFoundException">A file is missing.</exception>
    /// <exception cref="InvalidDataException">
    /// A file is damaged, or tensors are missing, unexpected or of another shape; all are listed.
    /// </exception>
    public static FlatWeights Load(string folder) => Load(folder, ScalarType.Float32);

    /// <summary>Loads the weights of a model folder into the CPU's memory, in this type.</summary>
    /// <inheritdoc cref="Load(string)"/>
    public static FlatWeights Load(string folder, ScalarType type) =>
        Load(folder, new FlatWeights(new WeightLayout(ModelConfigFile.Load(folder)), type, CPU));

    /// <summary>Loads the weights of a model folder, in this type on a GPU.</summary>
    /// <inheritdoc cref="Load(string)"/>
    public static FlatWeights Load(string folder, ScalarType type, CudaDevice gpu) =>
        Load(folder, new FlatWeights(new WeightLayout(ModelConfigFile.Load(folder)), type, gpu));

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

    /// <summary>The type that a model folder's weights are stored in; f32 where they have several.</summary>
    /// <inheritdoc cref="Load(string)" path="/exception"/>
    public static ScalarType StoredType(string folder)
    {
        var files = OpenAll(ModelFolder.Resolve(folder));
        try
        {
            string[] stored = [.. files.SelectMany(f => f.Entries.Values).Select(e => e.Type).Distinct()];
            var known = ElementType.All.FirstOrDefault(t => stored is [var only] && t.SafetensorsName == only);
            return (known ?? ElementType.F32).Scalar;
        }
        finally
        {
            foreach (var file in files)
                file.Dispose();
        }
    }

    /// <summary>Reads the weights of a model folder into weights of the same layout.</summary>
    /// <inheritdoc cref="Load(string)"/>
    public static void ReadInto(string folder, FlatWeights weights)
    {
        folder = ModelFolder.Resolve(folder);
        var files = OpenAll(folder);
        try
        {
            var found = FindTensors(folder, files, weights.Layout.Config.TieEmbeddings);
            Check(folder, weights.Layout, found.ToDictionary(p => p.Key, p => p.Value.Entry));

            using var upload = weights.Device is { } gpu ? new DeviceUpload(gpu) : null;
            var type = NumberConversion.Of(weights.Flat.dtype);
            var damaged = new List<string>();
            foreach (var tensor in weights.Layout.CheckpointTensors)
            {
                var (file, entry) = found[tensor.Name];
                if (file.CountNotFinite(entry) is > 0 and var count)
                    damaged.Add($"'{tensor.Name}': {count} of {entry.Length} numbers are NaN or infinite");
                nint place = weights.Pointer + (nint)(tensor.Offset * NumberConversion.Size(type));
                if (upload is null)
                    file.Read(entry, place, type);
                else
                    file.Read(entry, upload, place, type);
            }

            RefuseAny(
                damaged,
                $"{folder}: weights that no model can compute with (the file is damaged, or training had diverged "
                    + "when it was written; use an earlier checkpoint)"
            );
        }
        finally
        {
            foreach (var file in files)
                file.Dispose();
        }
    }

    /// <summary>Checks that a model folder has the weights of a layout, by their files' headers alone.</summary>
    /// <inheritdoc cref="Load(string)" path="/exception"/>
    public static void Check(string folder, WeightLayout layout)
    {
        var files = OpenAll(folder);
        try
        {
            var found = FindTensors(folder, files, layout.Config.TieEmbeddings);
            Check(folder, layout, found.ToDictionary(p => p.Key, p => p.Value.Entry));
        }
        finally
        {
            foreach (var file in files)
                file.Dispose();
        }
    }

    /// <summary>Writes a model folder that other tools load: weights, config, and the tokenizer's files.</summary>
    /// <param name="weights">f32 on the CPU.</param>
    /// <param name="source">The folder to copy the tokenizer's files from; null copies none.</param>
    /// <exception cref="ArgumentException">The weights are of another type, or on a GPU.</exception>
    public static void Write(
        string folder,
        FlatWeights weights,
        WeightType type,
        string? source,
        long shardBytes = 5_000_000_000
    )
    {
        if (weights.Device is not null || weights.Flat.dtype != ScalarType.Float32)
            throw new ArgumentException(
                $"a checkpoint is written from f32 weights in the CPU's memory; these are {weights.Flat.dtype} "
                    + (weights.Device is null ? "on the CPU" : "on a GPU"),
                nameof(weights)
            );
        Directory.CreateDirectory(folder);
        SafetensorsWriter.WriteFolder(folder, [.. weights.Layout.CheckpointTensors.Select(SourceOf)], type, shardBytes);
        File.WriteAllText(Path.Combine(folder, "config.json"), ModelConfigFile.ToJson(weights.Layout.Config, type));

        if (source is null)
            return;
        source = ModelFolder.Resolve(source);
        if (Path.GetFullPath(source) == Path.GetFullPath(folder))
            return;
        foreach (string name in Companions)
        {
            string companion = Path.Combine(source, name);
            if (File.Exists(companion))
                File.Copy(companion, Path.Combine(folder, name), overwrite: true);
        }

        SafetensorsWriter.Source SourceOf(CheckpointTensor tensor) =>
            new(tensor.Name, tensor.Shape, weights.Pointer + (nint)(sizeof(float) * tensor.Offset));
    }

    /// <summary>Every tensor of the files, by name.</summary>
    private static Dictionary<string, (SafetensorsFile File, SafetensorsEntry Entry)> FindTensors(
        string folder,
        List<SafetensorsFile> files,
        bool tied
    )
    {
        var found = new Dictionary<string, (SafetensorsFile File, SafetensorsEntry Entry)>();
        foreach (var file in files)
        foreach (var entry in file.Entries.Values)
            if (!found.TryAdd(entry.Name, (file, entry)))
                throw new InvalidDataException(
                    $"{folder}: tensor '{entry.Name}' is in {found[entry.Name].File.Path} and in {file.Path}"
                );

        // A tied pair is one tensor, and some writers keep it under its other name.
        if (tied && !found.ContainsKey(Embedding) && found.Remove(Output, out var shared))
            found[Embedding] = shared;

        return found;
    }

    private static List<SafetensorsFile> OpenAll(string folder)
    {
        string single = Path.Combine(folder, "model.safetensors");
        string index = single + ".index.json";
        if (File.Exists(single))
            return [SafetensorsFile.Open(single)];
        if (!File.Exists(index))
            throw new FileNotFoundException(
                $"{single}: not found, nor {Path.GetFileName(index)}. Weights must be in safetensors "
                    + "(convert with transformers' save_pretrained).",
                single
            );

        var files = new List<SafetensorsFile>();
        try
        {
            ModelFile.Read(index).Parse("an index of weights", root => OpenShards(folder, root, files));
            return files;
        }
        catch
        {
            foreach (var file in files)
                file.Dispose();
            throw;
        }
    }

    /// <summary>Opens the files of an index, and checks that each tensor is where the index says.</summary>
    private static List<SafetensorsFile> OpenShards(string folder, JsonSection root, List<SafetensorsFile> files)
    {
        var map = root.Section("weight_map");
        if (!map.Keys.Any())
            throw root.Problem("weight_map", "it names no tensor");

        foreach (var tensors in map.Keys.GroupBy(map.Text))
        {
            string path = Path.Combine(folder, tensors.Key);
            if (Path.GetFileName(tensors.Key) != tensors.Key)
                throw map.Problem(tensors.First(), $"'{tensors.Key}' is not the name of a file in the same folder");
            if (!File.Exists(path))
                throw new FileNotFoundException(
                    $"{path}: not found, but model.safetensors.index.json names it. Download the missing shard.",
                    path
                );

            var file = SafetensorsFile.Open(path);
            files.Add(file);
            if (tensors.FirstOrDefault(name => !file.Entries.ContainsKey(name)) is { } missing)
                throw map.Problem(
                    missing,
                    $"the index puts it into {tensors.Key}, which does not hold it: index and shards are not of one "
                        + "download. Download the folder again"
                );
        }

        return files;
    }

    private static void Check(string folder, WeightLayout layout, Dictionary<string, SafetensorsEntry> found)
    {
        var problems = new List<string>();
        foreach (var wanted in layout.CheckpointTensors)
        {
            string shape = string.Join(", ", wanted.Shape);
            if (!found.Remove(wanted.Name, out var entry))
                problems.Add($"'{wanted.Name}': missing, expected shape [{shape}]");
            else if (!entry.Shape.SequenceEqual(wanted.Shape))
                problems.Add(
                    $"'{wanted.Name}': expected shape [{shape}] from config.json, "
                        + $"found [{string.Join(", ", entry.Shape)}]"
                );
            else if (ElementType.All.All(t => t.SafetensorsName != entry.Type))
                problems.Add($"'{wanted.Name}': expected dtype F32, F16 or BF16, found {entry.Type}");
        }

        foreach (string name in found.Keys.Where(n => !IsRedundant(n, layout.Config)))
            problems.Add($"'{name}': unexpected, this architecture has no such tensor");

        RefuseAny(problems, $"{folder}: the tensors do not fit config.json");
    }

    private static void RefuseAny(List<string> problems, string heading)
    {
        if (problems.Count == 0)
            return;
        int more = problems.Count - MostProblemsListed;
        string listed = string.Join("\n  ", problems.Take(MostProblemsListed));
        string rest = more > 0 ? $"\n  and {more} more" : "";
        throw new InvalidDataException($"{heading}:\n  {listed}{rest}");
    }

    /// <summary>
    /// A tied checkpoint may repeat its embedding as lm_head, and old ones hold rotary tables: both are recomputed
    /// here.
    /// </summary>
    private static bool IsRedundant(string name, ModelConfig config) =>
        (name == Output && config.TieEmbeddings) || name.EndsWith("rotary_emb.inv_freq", StringComparison.Ordinal);
}
