using SimpleR1.Models;
using SimpleR1.Models.Tokenization;
using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Supervised;
using Xunit;

namespace SimpleR1.Tests.Training.Data;

public sealed class TextLayoutTests : DataFolder
{
    private Demonstration First(string rows, DataColumns? columns = null) =>
        Dataset.LoadTexts(new() { Path = Write("x.jsonl", rows), Columns = columns ?? new() })[0];

    [Fact]
    public void Texts_keep_every_space_and_line_break()
    {
        var text = First("""{"question":"2+2","answer":" <think>\n2+2=4\n</think>\n"}""");
        Assert.Equal(("2+2", " <think>\n2+2=4\n</think>\n"), (text.Question, text.Text));
    }

    [Fact]
    public void All_of_a_solution_is_learnt_not_only_its_gold_answer()
    {
        Assert.Equal("1+1=2\n#### 2", First("""{"question": "q", "answer": "1+1=2\n#### 2"}""").Text);
        Assert.Equal("so \\boxed{2}", First("""{"problem": "q", "solution": "so \\boxed{2}", "answer": "2"}""").Text);
        Assert.Contains("####", Dataset.LoadTexts(new() { Path = SharedData.Require("gsm8k/test.jsonl") })[0].Text);
    }

    [Fact]
    public void Text_without_a_question_is_learnt_alone()
    {
        var text = First("""{"text": " once\n"}""");
        Assert.Equal(("", " once\n"), (text.Question, text.Text));
        Assert.Equal(" once\n", First("""{"text": " once\n"}""", new() { Question = "", Answer = "text" }).Text);
    }

    [Theory]
    [InlineData("""{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": " a\n"}]}""")]
    [InlineData("""{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": " a\n"}]}""")]
    [InlineData(
        """{"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": " a\n"}]}"""
    )]
    [InlineData("""{"prompt": [{"role": "user", "content": "q"}], "completion": " a\n"}""")]
    public void Conversations_go_in_as_messages(string row)
    {
        var text = First(row);
        Assert.Equal(" a\n", text.Text);
        Assert.Equal(["user q", "assistant  a\n"], text.Messages!.Select(m => $"{m.Role} {m.Content}"));
    }

    [Fact]
    public void Rows_without_a_text_are_refused_or_left_out()
    {
        var source = new DataSource { Path = Write("x.jsonl", "{\"question\": \"q\", \"answer\": null}") };
        Assert.Contains(
            "no text to learn in",
            Assert.Throws<InvalidDataException>(() => Dataset.LoadTexts(source)).Message
        );
        Assert.Contains(
            "ends with a message of role 'user'",
            Assert
                .Throws<InvalidDataException>(() => First("""{"messages": [{"role": "user", "content": "q"}]}"""))
                .Message
        );
    }

    [Theory]
    [InlineData("""{"question":"2+2","answer":" <think>2+2=4</think>\n"}""", "Q: 2+2\nA:", " <think>2+2=4</think>\n")]
    [InlineData(
        """{"messages":[{"role":"user","content":"2"},{"role":"assistant","content":" 4\n"}]}""",
        "Q: 2\nA:",
        " 4\n"
    )]
    [InlineData("""{"text":" 1\n"}""", "", " 1\n")]
    public void Tokens_are_the_prompt_the_text_and_an_end(string row, string prompt, string learnt)
    {
        string model = Path.Combine(SharedData.RepositoryRoot, "recipes", "tiny-base");
        var recipe = new SftRecipe
        {
            Name = "t",
            Output = "o",
            Data = new() { Train = new() { Path = Write("x.jsonl", row) } },
            Model = new() { Path = model, Template = "Q: {question}\nA:" },
            Training = new() { LearnPrompts = false },
        };
        var tokenizer = Tokenizer.Load(model);
        var texts = new SftTexts(recipe, tokenizer, ModelConfigFile.Load(model)).Load(recipe.Data.Train, null).Texts;
        int first = texts[0].Positions[0];
        int start = prompt.Length == 0 ? 0 : first; // the first token of all is never predicted
        Assert.Equal(prompt, tokenizer.Decode(texts[0].Tokens.AsSpan(0, start), withSpecialTokens: true));
        Assert.Equal(
            learnt + "<|endoftext|>",
            tokenizer.Decode(texts[0].Tokens.AsSpan(start), withSpecialTokens: true)
        );
    }
}
