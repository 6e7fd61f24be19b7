using SimpleR1.Inference;
using Xunit;

namespace SimpleR1.Tests.Inference;

public sealed class StopStringTests
{
    private static readonly int[] Prompt = TestEngine.Tokenizer.Encode("hello");

    /// <summary>
    /// Forces the model to write <paramref name="text"/>, byte by byte, by adding to the logit of each next token.
    /// </summary>
    private static (Completion Completion, List<TokenEvent> Events) Write(
        string text,
        SamplingParameters sampling,
        int[]? ids = null
    )
    {
        ids ??= TestEngine.Tokenizer.Encode(text);
        using var test = TestEngine.WithText();
        var events = new List<TokenEvent>();
        var forced = new Dictionary<int, float>();
        int next = 0;
        Force();
        test.Engine.Submit(
            [new("r", Prompt, sampling with { LogitBias = forced })],
            e =>
            {
                events.Add(e);
                Force();
            }
        );
        while (test.Step()) { }
        var completion = events[^1].Completion!;
        Assert.All(events.SkipLast(1), e => Assert.Null(e.Completion));
        Assert.Equal(completion.Text, string.Concat(events.Select(e => e.Text)));
        Assert.Equal(completion.Tokens, events.Select(e => e.Token));
        return (completion, events);

        void Force()
        {
            forced.Clear();
            if (next < ids.Length)
                forced[ids[next++]] = 1000;
        }
    }

    private static readonly SamplingParameters Plain = new() { MaxTokens = 40 };

    [Theory]
    [InlineData("one two STOP three", false, "one two "), InlineData("one two STOP three", true, "one two STOP")]
    [InlineData("SSTSTOP", false, "SST"), InlineData("STOP", false, "")]
    public void Stop_string_across_tokens_ends_the_text(string text, bool include, string expected)
    {
        var (completion, _) = Write(
            text,
            Plain with
            {
                StopStrings = ["nothing", "STOP"],
                IncludeStopString = include,
            }
        );
        Assert.Equal((expected, FinishReason.Stop), (completion.Text, completion.FinishReason));
        Assert.Equal(
            TestEngine.Tokenizer.Encode(text[..(text.IndexOf("STOP", StringComparison.Ordinal) + 4)]),
            completion.Tokens
        );
    }

    [Fact]
    public void Earliest_of_several_stop_strings_in_one_token_wins()
    {
        var (completion, _) = Write("a<answer>", Plain with { StopStrings = ["wer", "<ans"] });
        Assert.Equal("a", completion.Text);
    }

    [Fact]
    public void Possible_stop_string_is_held_back_until_it_is_certain()
    {
        var (completion, events) = Write("a ST STO b", Plain with { StopStrings = ["STOP"], MaxTokens = 10 });
        Assert.Equal("a ST STO b", completion.Text);
        Assert.Equal(["a", " ", "", "", "ST ", "", "", "", "STO ", "b"], events.Select(e => e.Text));
    }

    [Fact]
    public void Stop_string_before_the_minimum_length_does_not_stop()
    {
        var (completion, _) = Write("xSTOPySTOPz", Plain with { StopStrings = ["STOP"], MinTokens = 6 });
        Assert.Equal("xSTOPy", completion.Text);
    }

    [Fact]
    public void Character_of_several_tokens_comes_whole_and_an_unfinished_one_as_replacement()
    {
        var (completion, events) = Write("é🙂", Plain with { MaxTokens = 5 });
        Assert.Equal(["", "é", "", "", "\uFFFD"], events.Select(e => e.Text));
        Assert.Equal("é\uFFFD", completion.Text);
    }

    [Fact]
    public void Ending_ids_are_tokens_but_no_text()
    {
        var eos = Write("", Plain, [.. TestEngine.Tokenizer.Encode("ab"), 256]).Completion;
        Assert.Equal(("ab", FinishReason.Stop, 3), (eos.Text, eos.FinishReason, eos.Tokens.Length));
        int end = TestEngine.Tokenizer.TokenId("</answer>")!.Value;
        var stop = Write("ab</answer>", Plain with { StopTokenIds = [end] }).Completion;
        Assert.Equal(("ab", end), (stop.Text, stop.Tokens[^1]));
        Assert.Equal(
            "ab</answer>",
            Write("ab</answer>", Plain with { StopTokenIds = [end], IncludeStopString = true }).Completion.Text
        );
    }
}
