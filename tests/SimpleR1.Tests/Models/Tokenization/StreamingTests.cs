using System.Text;
using SimpleR1.Models.Tokenization;
using Xunit;

namespace SimpleR1.Tests.Models.Tokenization;

public sealed class StreamingTests
{
    public static TheoryData<string> Files => ReferenceTests.Files;

    private static Tokenizer Load(string name) =>
        Tokenizer.FromJson(
            File.ReadAllBytes(Path.Combine(SharedData.RepositoryRoot, "tests", "data", "tokenizers", name + ".json"))
        );

    [Theory]
    [MemberData(nameof(Files))]
    public void Pieces_after_a_prompt_are_the_rest_of_the_decoded_text(string name)
    {
        var tokenizer = Load(name);
        int compared = 0;
        foreach (string text in AwkwardTexts.All.Where(text => text.Length is > 1 and < 200))
        foreach (bool special in (bool[])[false, true])
        {
            int[] ids = tokenizer.EncodePrompt(text);
            int cut = ids.Length / 2;
            string whole = tokenizer.Decode(ids, special);
            string prompt = tokenizer.Decode(ids.AsSpan(0, cut), special);
            if (!whole.StartsWith(prompt, StringComparison.Ordinal))
                continue; // the cut is inside a character: no text begins the other

            var stream = tokenizer.Stream(special, ids.AsSpan(0, cut));
            string rest = string.Concat(ids[cut..].Select(stream.Append)) + stream.Flush();
            Assert.Equal(whole[prompt.Length..], rest);
            compared++;
        }

        Assert.True(compared > 400, $"only {compared} texts could be cut");
    }

    [Fact]
    public void The_first_space_of_a_completion_stays_with_a_tokenizer_like_llama_2()
    {
        foreach (string name in (string[])["llama2", "mistral-v3", "metaspace"])
        {
            var tokenizer = Load(name);
            int[] prompt = tokenizer.EncodePrompt("Lily said she is");
            int[] completion = tokenizer.Encode("an old man");
            var stream = tokenizer.Stream(context: prompt);
            string text = string.Concat(completion.Select(stream.Append)) + stream.Flush();
            Assert.Equal(" an old man", text);
            byte[] bytes = [.. completion.SelectMany(id => tokenizer.TokenBytes(id).ToArray())];
            Assert.Equal(text, Encoding.UTF8.GetString(bytes));
            Assert.Equal("an old man", tokenizer.Decode(completion)); // as a text of its own
        }
    }

    [Fact]
    public void Bytes_of_a_character_come_together_and_broken_ones_each_as_a_replacement()
    {
        var tokenizer = Load("llama2");
        int[] smile = [.. Encoding.UTF8.GetBytes("😀").Select(b => tokenizer.TokenId($"<0x{b:X2}>")!.Value)];
        int the = tokenizer.TokenId("▁the")!.Value;
        var stream = tokenizer.Stream(context: [the]);
        Assert.All(smile, id => Assert.Equal("", stream.Append(id)));
        Assert.Equal("😀 the", stream.Append(the));
        Assert.Equal("", stream.Append(smile[1]));
        Assert.Equal("\uFFFD", stream.Flush());
    }
}
