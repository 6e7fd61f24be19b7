using System.Text;
using System.Text.Json;
using CsCheck;
using SimpleR1.Models.Tokenization;
using Xunit;

namespace SimpleR1.Tests.Models.Tokenization;

public sealed class TokenizerTests
{
    [Fact]
    public void Qwen_vectors_encode_to_the_reference_ids()
    {
        string folder = SharedData.Require("tokenizers/qwen2.5");
        var tokenizer = Tokenizer.Load(folder);
        string[] texts = File.ReadAllText(Path.Combine(folder, "vectors.inp")).Split("\n__ggml_vocab_test__\n");
        string[] lines = File.ReadAllText(Path.Combine(folder, "vectors.out")).Split('\n')[..texts.Length];
        Assert.Equal(47, lines.Length);
        for (int i = 0; i < lines.Length; i++)
            Assert.Equal(
                lines[i].Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(int.Parse),
                tokenizer.Encode(texts[i])
            );
    }

    [Fact]
    public void Qwen_encodings_of_985_texts_equal_the_reference_both_ways()
    {
        string folder = SharedData.Require("tokenizers/qwen2.5");
        var tokenizer = Tokenizer.Load(folder);
        int count = 0;
        var wrong = new List<string>();
        foreach (string line in File.ReadLines(Path.Combine(folder, "encodings.jsonl")))
        {
            using var document = JsonDocument.Parse(line);
            string text = document.RootElement.GetProperty("text").GetString()!;
            string decoded = document.RootElement.GetProperty("decoded").GetString()!;
            int[] ids = [.. document.RootElement.GetProperty("ids").EnumerateArray().Select(e => e.GetInt32())];
            count++;
            if (!tokenizer.Encode(text).SequenceEqual(ids))
                wrong.Add("encode " + document.RootElement.GetProperty("kind") + ": " + text);
            if (tokenizer.Decode(ids, withSpecialTokens: true) != decoded)
                wrong.Add("decode " + document.RootElement.GetProperty("kind") + ": " + text);
        }
        Assert.Equal(985, count);
        Assert.True(wrong.Count == 0, $"{wrong.Count} differ, first: {string.Join("\n", wrong.Take(3))}");
    }

    [Fact]
    public void TinyStories_byte_fallback_tokenizer_gives_the_reference_prompt_ids_and_text()
    {
        string folder = SharedData.Require("models/TinyStories-656K");
        var tokenizer = Tokenizer.Load(folder);
        using var document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "reference_logits_fp64.json")));
        foreach (var item in document.RootElement.EnumerateArray())
        {
            Assert.Equal(
                item.GetProperty("prompt_ids").EnumerateArray().Select(e => e.GetInt32()),
                tokenizer.EncodePrompt(item.GetProperty("prompt").GetString()!)
            );
            Assert.Equal(
                item.GetProperty("text").GetString()!,
                tokenizer.Decode([.. item.GetProperty("greedy_ids").EnumerateArray().Select(e => e.GetInt32())])
            );
        }
    }

    [Fact]
    public void Streaming_gives_whole_characters_that_add_up_to_the_decoded_text()
    {
        var tokenizer = Tokenizer.Load(QuickstartBase);
        Gen.String.Sample(
            text =>
            {
                string valid = Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text)); // lone surrogates can't travel
                int[] ids = tokenizer.Encode(valid);
                var stream = tokenizer.Stream();
                var pieces = ids.Select(stream.Append).Append(stream.Flush()).ToArray();
                return string.Concat(pieces) == valid
                    && tokenizer.Decode(ids) == valid
                    && pieces.All(p => !p.Contains('\uFFFD') || valid.Contains('\uFFFD'));
            },
            iter: 2000
        );
    }

    [Fact]
    public void Ids_cut_inside_a_character_decode_to_the_replacement_character()
    {
        var tokenizer = Tokenizer.Load(QuickstartBase);
        int[] ids = tokenizer.Encode("é");
        Assert.Equal(2, ids.Length);
        Assert.Equal("\uFFFD", tokenizer.Decode(ids.AsSpan(0, 1)));
    }

    [Fact]
    public void Added_tokens_in_text_become_single_ids()
    {
        var tokenizer = Tokenizer.Load(QuickstartBase);
        int[] ids = tokenizer.Encode("<think>1</think>");
        Assert.Equal(
            [tokenizer.TokenId("<think>")!.Value, tokenizer.TokenId("1")!.Value, tokenizer.TokenId("</think>")!.Value],
            ids
        );
    }

    private static string QuickstartBase => Path.Combine(SharedData.RepositoryRoot, "recipes", "tiny-base");
}
