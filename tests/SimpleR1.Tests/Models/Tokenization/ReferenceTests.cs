using System.Text.Json.Nodes;
using SimpleR1.Models.Tokenization;
using Xunit;

namespace SimpleR1.Tests.Models.Tokenization;

/// <summary>
/// Ids and texts equal those of Hugging Face's library, for the steps of real tokenizers with small vocabularies, and
/// for the real ones that are at hand.
/// </summary>
public sealed class ReferenceTests
{
    private const int RandomSequences = 100;
    private static readonly string Folder = Path.Combine(SharedData.RepositoryRoot, "tests", "data", "tokenizers");

    public static TheoryData<string> Files =>
        [.. Directory.GetFiles(Folder, "*.json").Select(path => Path.GetFileNameWithoutExtension(path)).Order()];

    [Theory]
    [MemberData(nameof(Files))]
    public void Steps_of_a_real_tokenizer_give_the_reference_ids_and_texts(string name) =>
        Compare(Path.Combine(Folder, name + ".json"));

    [Theory]
    [InlineData("models/TinyStories-656K")]
    [InlineData("tokenizers/qwen2.5")]
    public void A_real_tokenizer_gives_the_reference_ids_and_texts(string folder) =>
        Compare(Path.Combine(SharedData.Require(folder), "tokenizer.json"));

    private static void Compare(string path)
    {
        Assert.True(AwkwardTexts.All.Count >= 400);
        byte[] json = File.ReadAllBytes(path);
        var tokenizer = Tokenizer.FromJson(json);
        var reference = new ReferenceTokenizer((JsonObject)JsonNode.Parse(json)!);
        var wrong = new List<string>();
        foreach (string text in AwkwardTexts.All)
        {
            int[] ids = reference.Encode(text);
            Check("encode", text, ids, tokenizer.Encode(text));
            Check("encode prompt", text, reference.EncodePrompt(text), tokenizer.EncodePrompt(text));
            CheckTexts(ids);
        }

        var random = new Random(7);
        for (int i = 0; i < RandomSequences; i++)
        {
            int[] ids = [.. Enumerable.Range(0, random.Next(1, 12)).Select(_ => random.Next(tokenizer.VocabularySize))];
            if (ids.All(id => tokenizer.TokenText(id) is not null))
                CheckTexts(ids);
        }

        Assert.True(wrong.Count == 0, $"{wrong.Count} differ, first:\n{string.Join("\n", wrong.Take(5))}");

        void CheckTexts(int[] ids)
        {
            string shown = string.Join(' ', ids.Take(20));
            CheckText("decode", shown, reference.Decode(ids), tokenizer.Decode(ids));
            CheckText("decode all", shown, reference.DecodeWithSpecial(ids), tokenizer.Decode(ids, true));
        }

        void Check(string kind, string text, int[] expected, int[] found)
        {
            if (!expected.SequenceEqual(found))
                wrong.Add($"{kind} '{text}': expected {string.Join(' ', expected)}, found {string.Join(' ', found)}");
        }

        void CheckText(string kind, string ids, string expected, string found)
        {
            if (expected != found)
                wrong.Add($"{kind} {ids}: expected '{expected}', found '{found}'");
        }
    }
}
