using System.Text.Json.Nodes;

namespace SimpleR1.Tests.Models.Tokenization;

/// <summary>
/// Hugging Face's own library (tokenizers 0.22.2, by Tokenizers.DotNet). It always adds special tokens when it encodes
/// and leaves them out when it decodes; the file is changed to have it otherwise.
/// </summary>
internal sealed class ReferenceTokenizer(JsonObject file)
{
    private readonly Lazy<Tokenizers.DotNet.Tokenizer> whole = new(() => Load(file));
    private readonly Lazy<Tokenizers.DotNet.Tokenizer> plain = new(() => Load(Plain(file)));

    public int[] EncodePrompt(string text) => [.. whole.Value.Encode(text).Select(id => (int)id)];

    public int[] Encode(string text) => [.. plain.Value.Encode(text).Select(id => (int)id)];

    public string Decode(int[] ids) => whole.Value.Decode([.. ids.Select(id => (uint)id)]);

    public string DecodeWithSpecial(int[] ids) => plain.Value.Decode([.. ids.Select(id => (uint)id)]);

    private static JsonObject Plain(JsonObject file)
    {
        var plain = (JsonObject)file.DeepClone();
        plain["post_processor"] = null;
        foreach (var token in plain["added_tokens"] as JsonArray ?? [])
            token!["special"] = false;
        return plain;
    }

    private static Tokenizers.DotNet.Tokenizer Load(JsonObject file)
    {
        string path = Path.Combine(Path.GetTempPath(), $"tokenizer-{Guid.NewGuid():N}.json");
        File.WriteAllText(path, file.ToJsonString());
        try
        {
            return new(vocabPath: path);
        }
        finally
        {
            File.Delete(path);
        }
    }
}
