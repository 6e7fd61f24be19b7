using SimpleR1.Inference;
using SimpleR1.Models.Tokenization;
using Xunit;

namespace SimpleR1.Tests.Inference;

/// <summary>Special tokens as stops and in texts, and the first space of a completion.</summary>
public sealed class SpecialTokenTests
{
    private static readonly Tokenizer Qwen = Load("qwen2.5");
    private static readonly Tokenizer Llama = Load("llama2");
    private static readonly SamplingParameters Plain = new() { MaxTokens = 30 };

    private static Tokenizer Load(string name) =>
        Tokenizer.FromJson(
            File.ReadAllBytes(Path.Combine(SharedData.RepositoryRoot, "tests", "data", "tokenizers", name + ".json"))
        );

    /// <summary>Forces a model to write ids, and returns what it made of them, whole and in pieces.</summary>
    private static Completion Write(Tokenizer tokenizer, int[] ids, SamplingParameters sampling, int[]? prompt = null)
    {
        int end = tokenizer.TokenId("<|endoftext|>") ?? tokenizer.TokenId("</s>")!.Value;
        var config = TinyModels.Config(vocabulary: tokenizer.VocabularySize) with { EosTokenIds = [end] };
        using var test = new TestEngine(config: config, tokenizer: tokenizer);
        var forced = new Dictionary<int, float>();
        var events = new List<TokenEvent>();
        int next = 0;
        Force();
        var request = new GenerationRequest(
            "r",
            prompt ?? tokenizer.Encode("hello"),
            sampling with
            {
                LogitBias = forced,
            }
        );
        test.Engine.Submit(
            [request],
            e =>
            {
                events.Add(e);
                Force();
            }
        );
        while (test.Step()) { }

        var completion = events[^1].Completion!;
        Assert.Equal(completion.Text, string.Concat(events.Select(e => e.Text)));
        return completion;

        void Force()
        {
            forced.Clear();
            if (next < ids.Length)
                forced[ids[next++]] = 1000;
        }
    }

    [Theory]
    [InlineData(false, "one two"), InlineData(true, "one two<|im_end|>")]
    public void A_stop_text_that_is_a_special_token_ends_the_completion(bool include, string expected)
    {
        var sampling = Plain with { StopStrings = ["nothing", "<|im_end|>"], IncludeStopString = include };
        int[] ids = Qwen.Encode("one two<|im_end|> three");
        var completion = Write(Qwen, ids, sampling);
        Assert.Equal((expected, FinishReason.Stop), (completion.Text, completion.FinishReason));
        Assert.Equal(Qwen.TokenId("<|im_end|>"), completion.Tokens[^1]);
    }

    [Fact]
    public void A_stop_text_with_a_special_token_inside_needs_special_tokens_in_the_text()
    {
        int[] ids = Qwen.Encode("one\n<|im_end|> three");
        var sampling = Plain with { StopStrings = ["\n<|im_end|>"] };
        Assert.Contains(
            "'<|im_end|>', which is no part of the text",
            Assert.Throws<ArgumentException>(() => Write(Qwen, ids, sampling)).Message
        );
        Assert.Equal("one", Write(Qwen, ids, sampling with { KeepSpecialTokens = true }).Text);
    }

    [Fact]
    public void Kept_special_tokens_are_text_but_the_end_of_text_is_not()
    {
        int[] ids = Qwen.Encode("<|im_start|>a<|im_end|>b<|endoftext|>");
        Assert.Equal("ab", Write(Qwen, ids, Plain).Text);
        var sampling = Plain with { KeepSpecialTokens = true, IncludeStopString = true };
        var completion = Write(Qwen, ids, sampling);
        Assert.Equal("<|im_start|>a<|im_end|>b", completion.Text);
        Assert.Equal(ids, completion.Tokens);
    }

    [Fact]
    public void A_completion_keeps_its_first_space()
    {
        int[] ids = [.. Llama.Encode("an old man"), Llama.TokenId("</s>")!.Value];
        Assert.Equal(" an old man", Write(Llama, ids, Plain, Llama.EncodePrompt("Lily said she is")).Text);
    }
}
