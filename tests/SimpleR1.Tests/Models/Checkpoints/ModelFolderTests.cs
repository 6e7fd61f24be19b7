using System.Text.Json.Nodes;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Models.Tokenization;
using Xunit;

namespace SimpleR1.Tests.Models.Checkpoints;

/// <summary>Model folders as they really lie on disks: linked, in a cache, in shards, damaged.</summary>
public sealed class ModelFolderTests : IDisposable
{
    private readonly string root = Directory.CreateTempSubdirectory("simple-r1-test").FullName;

    public void Dispose() => Directory.Delete(root, recursive: true);

    private string In(string path) => Path.Combine(root, path);

    /// <summary>Writes a tiny model, and the tokenizer of the quickstart's base model next to it.</summary>
    private string WriteModel(string name, long shardBytes = 5_000_000_000)
    {
        using var weights = TinyModels.Random(TinyModels.Config(vocabulary: 261));
        string source = Path.Combine(SharedData.RepositoryRoot, "recipes", "tiny-base");
        Checkpoint.Write(In(name), weights, WeightType.F32, source, shardBytes);
        File.Delete(Path.Combine(In(name), "generation_config.json"));
        return In(name);
    }

    private static void AssertLoads(string folder)
    {
        using var weights = Checkpoint.Load(folder);
        Assert.True(weights.AreFinite());
        Tokenizer.Load(folder).CheckFits(weights.Layout.Config);
    }

    /// <summary>A model in the layout of the Hugging Face cache: snapshots of links to blobs.</summary>
    private string WriteCache(params string[] revisions)
    {
        string model = WriteModel("model");
        string cache = In("models--test--tiny");
        Directory.CreateDirectory(Path.Combine(cache, "blobs"));
        foreach (string file in Directory.GetFiles(model))
        {
            string blob = Path.Combine(cache, "blobs", "sha-" + Path.GetFileName(file));
            File.Move(file, blob);
            foreach (string revision in revisions)
            {
                string snapshot = Directory.CreateDirectory(Path.Combine(cache, "snapshots", revision)).FullName;
                File.CreateSymbolicLink(
                    Path.Combine(snapshot, Path.GetFileName(file)),
                    Path.Combine("..", "..", "blobs", Path.GetFileName(blob))
                );
            }
        }

        return cache;
    }

    [Fact]
    public void A_folder_of_the_hugging_face_cache_loads_by_each_of_its_paths()
    {
        string cache = WriteCache("abc");
        AssertLoads(cache);
        AssertLoads(Path.Combine(cache, "snapshots", "abc"));

        Directory.CreateSymbolicLink(In("link"), cache);
        AssertLoads(In("link"));
    }

    [Fact]
    public void Of_several_snapshots_the_main_one_loads_and_none_is_guessed()
    {
        string cache = WriteCache("one", "two");
        string message = Assert.Throws<InvalidDataException>(() => Checkpoint.Load(cache)).Message;
        Assert.Contains(Path.Combine("snapshots", "one"), message);
        Directory.CreateDirectory(Path.Combine(cache, "refs"));
        File.WriteAllText(Path.Combine(cache, "refs", "main"), "two\n");
        Assert.Equal(Path.Combine(cache, "snapshots", "two"), ModelFolder.Resolve(cache));
        AssertLoads(cache);
    }

    [Fact]
    public void A_linked_weights_file_loads_and_so_does_a_copy_of_its_folder()
    {
        string model = WriteModel("model");
        string weights = Path.Combine(model, "model.safetensors");
        File.Move(weights, In("elsewhere"));
        File.CreateSymbolicLink(weights, In("elsewhere"));
        AssertLoads(model);

        using var loaded = Checkpoint.Load(model);
        Checkpoint.Write(In("copy"), loaded, WeightType.F32, model);
        AssertLoads(In("copy"));
    }

    [Theory]
    [InlineData("model.safetensors")]
    [InlineData("config.json")]
    [InlineData("tokenizer.json")]
    public void A_pointer_of_git_lfs_is_called_that(string file)
    {
        string model = WriteModel("model");
        File.WriteAllText(
            Path.Combine(model, file),
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
        );
        string message = Assert.Throws<InvalidDataException>(() => AssertLoads(model)).Message;
        Assert.Contains("git lfs pull", message);
        Assert.StartsWith(Path.Combine(model, file), message);
    }

    [Theory]
    [InlineData("{", "not valid JSON")]
    [InlineData("[]", "expected an object")]
    [InlineData("{}", "'weight_map': missing")]
    [InlineData("""{"weight_map": {}}""", "names no tensor")]
    [InlineData("""{"weight_map": {"a": 1}}""", "'weight_map.a': expected a text, found 1")]
    [InlineData("""{"weight_map": {"a": "../x"}}""", "not the name of a file")]
    public void A_broken_index_is_named_with_its_line(string index, string named)
    {
        string model = WriteModel("model", shardBytes: 4000);
        string path = Path.Combine(model, "model.safetensors.index.json");
        File.WriteAllText(path, index);
        string message = Assert.Throws<InvalidDataException>(() => Checkpoint.Load(model)).Message;
        Assert.Contains(named, message);
        Assert.StartsWith(path + ":1", message);
    }

    [Fact]
    public void A_tensor_in_another_shard_than_the_index_says_is_named()
    {
        string model = WriteModel("model", shardBytes: 4000);
        AssertLoads(model);
        string path = Path.Combine(model, "model.safetensors.index.json");
        var index = (JsonObject)JsonNode.Parse(File.ReadAllText(path))!;
        var map = (JsonObject)index["weight_map"]!;
        string other = map.Select(p => (string)p.Value!).First(file => file != (string)map["model.norm.weight"]!);
        map["model.norm.weight"] = other;
        File.WriteAllText(path, index.ToJsonString());
        string message = Assert.Throws<InvalidDataException>(() => Checkpoint.Load(model)).Message;
        Assert.Contains("model.norm.weight", message);
        Assert.Contains(other, message);
    }

    [Fact]
    public void Weights_that_are_no_numbers_are_named_by_tensor()
    {
        foreach (var type in Enum.GetValues<WeightType>())
        {
            using var weights = TinyModels.Random(TinyModels.Config(vocabulary: 261));
            weights.FinalNorm[3] = float.NaN;
            weights.FinalNorm[5] = float.NegativeInfinity;
            Checkpoint.Write(In("nan"), weights, type, null);
            string message = Assert.Throws<InvalidDataException>(() => Checkpoint.Load(In("nan"))).Message;
            Assert.Contains("'model.norm.weight': 2 of 24 numbers are NaN or infinite", message);
        }
    }

    [Theory]
    [InlineData(
        "\"eos_token_id\": 1",
        "\"eos_token_id\": [256, null]",
        "'eos_token_id[1]': expected a whole number, found null"
    )]
    [InlineData("\"eos_token_id\": 1", "\"eos_token_id\": 999", "999 is outside the vocabulary of 261")]
    [InlineData("\"eos_token_id\": 1", "\"eos_token_id\": \"</s>\"", "'eos_token_id': expected a whole number")]
    [InlineData(
        "\"vocab_size\": 261",
        "\"vocab_size\": \"261\"",
        "'vocab_size': expected a whole number, found \"261\""
    )]
    [InlineData(
        "\"tie_word_embeddings\": true",
        "\"tie_word_embeddings\": 1",
        "'tie_word_embeddings': expected true or false"
    )]
    [InlineData("\"rms_norm_eps\": 1E-06", "\"rms_norm_eps\": \"small\"", "'rms_norm_eps': expected a number")]
    [InlineData("\"model_type\"", "\"rope_parameters\": 3, \"model_type\"", "'rope_parameters': expected an object")]
    [InlineData("\"head_dim\": 8", "\"head_dim\": 8.5", "'head_dim': expected a whole number")]
    public void A_wrong_value_in_a_config_is_named_with_its_line(string from, string to, string named)
    {
        string path = Path.Combine(WriteModel("model"), "config.json");
        string json = File.ReadAllText(path);
        Assert.Contains(from, json);
        File.WriteAllText(path, json.Replace(from, to));
        string message = Assert.Throws<InvalidDataException>(() => ModelConfigFile.Load(In("model"))).Message;
        Assert.Contains(named, message);
        int line = 1 + json[..json.IndexOf(from, StringComparison.Ordinal)].Count(c => c == '\n');
        Assert.StartsWith($"{path}:{line}: ", message);
    }

    [Theory]
    [InlineData("{\"full_attention\": {\"rope_theta\": 1e6}}", "'rope_parameters.full_attention'")]
    [InlineData("{\"rope_theta\": 10000.0, \"factor\": 8.0}", "'rope_parameters.factor'")]
    [InlineData("{\"rope_type\": \"yarn\", \"factor\": 8.0}", "yarn")]
    public void A_rotation_in_an_unexpected_form_is_refused_by_name(string rope, string named)
    {
        string path = Path.Combine(WriteModel("model"), "config.json");
        File.WriteAllText(
            path,
            File.ReadAllText(path).Replace("\"model_type\"", $"\"rope_parameters\": {rope}, \"model_type\"")
        );
        string message = Assert.Throws<NotSupportedException>(() => ModelConfigFile.Load(In("model"))).Message;
        Assert.Contains(named, message);
    }

    [Fact]
    public void The_end_of_text_comes_from_generation_config_and_its_absence_is_said()
    {
        string model = WriteModel("model");
        string generation = Path.Combine(model, "generation_config.json");
        File.WriteAllText(generation, """{"eos_token_id": [2, 3]}""");
        Assert.Equal([2, 3], ModelConfigFile.Load(model).EosTokenIds);
        Assert.Null(ModelConfigFile.Load(model).EndWarning);
        File.WriteAllText(generation, """{"eos_token_id": [2, null]}""");
        Assert.Contains(
            generation + ":1: 'eos_token_id[1]'",
            Assert.Throws<InvalidDataException>(() => ModelConfigFile.Load(model)).Message
        );
        File.WriteAllText(generation, "{}");
        string path = Path.Combine(model, "config.json");
        File.WriteAllText(path, File.ReadAllText(path).Replace("\"eos_token_id\": 1", "\"eos_token_id\": null"));
        Assert.Contains("every completion runs to its limit", ModelConfigFile.Load(model).EndWarning);
    }
}
