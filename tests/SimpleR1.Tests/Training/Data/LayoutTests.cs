using SimpleR1.Models.Prompts;
using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes;
using Xunit;

namespace SimpleR1.Tests.Training.Data;

public sealed class LayoutTests : DataFolder
{
    private DataSource Source(string rows, string? question = null, string? answer = null) =>
        new()
        {
            Path = Write("x.jsonl", rows),
            Columns = new() { Question = question, Answer = answer },
        };

    private Problem First(string rows, string? question = null, string? answer = null) =>
        Dataset.Load(Source(rows, question, answer))[0];

    [Theory]
    [InlineData("We get two. #### (3, 4)", "(3, 4)")]
    [InlineData("x #### 1,2,3", "1,2,3")]
    [InlineData("a #### b\n####  1,234 \n", "1,234")]
    public void The_gold_of_gsm8k_is_what_follows_the_last_mark(string text, string gold) =>
        Assert.Equal(
            gold,
            First($$"""{"question": "q", "answer": {{System.Text.Json.JsonSerializer.Serialize(text)}}}""").Answer
        );

    [Fact]
    public void The_gold_of_other_layouts_is_the_column_as_it_is()
    {
        foreach (string gold in new[] { " 1,000\n", "[1, 2]", "{1}", "YWJj", "null" })
        {
            string text = System.Text.Json.JsonSerializer.Serialize(gold);
            Assert.Equal(gold, First($$"""{"question": "q", "answer": {{text}}}""").Answer);
        }
    }

    [Fact]
    public void Rows_with_and_without_the_mark_need_a_format()
    {
        var source = Source(
            "{\"question\": \"q\", \"answer\": \"#### 1\"}\n{\"question\": \"q\", \"answer\": \"two\"}"
        );
        Assert.Contains("x.jsonl:1: column 'answer' ends in '#### n', that of ", Refused(source));
        Assert.Contains("x.jsonl:2: a gsm8k answer ends in", Refused(source with { Format = DataFormat.Gsm8k }));
        Assert.Equal(["#### 1", "two"], Dataset.Load(source with { Format = DataFormat.Plain }).Select(p => p.Answer));
    }

    [Fact]
    public void Rows_without_answer_or_question_are_counted_named_and_left_out()
    {
        string rows = string.Join(
            "\n",
            """{"question": "e", "answer": "nothing ####"}""",
            """{"question": "q", "answer": "#### 1"}""",
            """{"question": " ", "answer": "#### 1"}""",
            """{"question": "q"}""",
            """{"answer": "#### 2"}"""
        );
        var log = new List<string>();
        var source = Source(rows);
        Assert.Equal("1", Dataset.Load(source, log.Add).Single().Answer);
        string path = source.Path!;
        Assert.Equal(
            $"{path}: 4 of 5 rows can't be used: no answer in {path} line 1, {path} line 4; "
                + $"no question in {path} line 3, {path} line 5; they are left out",
            log.Single()
        );
        Assert.Contains("4 of 5 rows can't be used", Refused(source with { RequireComplete = true }));
        Assert.Contains("1 of 1 rows can't be used", Refused(source with { Skip = 2, Take = 1 }));
    }

    [Theory]
    [InlineData("""{"question": "q", "answer": ["a", "b"]}""", "column 'answer' holds a list of 2")]
    [InlineData("""{"question": "q", "answer": {"x": 1}}""", "column 'answer' holds an object with x")]
    [InlineData("""{"question": ["q"], "answer": "a"}""", "column 'question' holds a list of 1")]
    [InlineData("""{"question": {"text": "q"}, "answer": "a"}""", "such as question.text")]
    public void Lists_and_objects_are_neither_questions_nor_answers(string row, string message)
    {
        string found = Refused(Source(row));
        Assert.Contains("x.jsonl:1: ", found);
        Assert.Contains(message, found);
    }

    [Theory]
    [InlineData("reward_model.ground_truth", "7")]
    [InlineData("extra.0.a", "8")]
    [InlineData("a.b", "dot")]
    [InlineData("info.answer", "9")]
    public void Nested_columns_have_dotted_names(string answer, string gold)
    {
        const string Row = """
            {"question": "q", "reward_model": {"ground_truth": "7"}, "extra": [{"a": 8}],
            "a.b": "dot", "a": {"b": "nested"}, "info": "{\"answer\": 9}"}
            """;
        Assert.Equal(gold, First(Row.ReplaceLineEndings(""), answer: answer).Answer);
    }

    [Fact]
    public void Columns_that_do_not_exist_are_named_with_the_nearest()
    {
        const string Row = """{"question": "q", "reward_model": {"ground_truth": "7"}, "answer": "1"}""";
        Assert.Contains(
            "no column for 'reward_model.groundtruth'; did you mean 'reward_model.ground_truth'? Found 'question'",
            Refused(Source(Row, answer: "reward_model.groundtruth"))
        );
        Assert.Contains("did you mean 'question'?", Refused(Source(Row, question: "{qestion} {answer}")));
    }

    [Theory]
    [InlineData("{Body} {info.q}", "b q")]
    [InlineData("{{{Body}}} \\boxed{} {", "{b} \\boxed{} {")]
    [InlineData("{odd}", "a column")]
    public void Templates_join_columns(string template, string question) =>
        Assert.Equal(
            question,
            First("""{"Body": "b", "info": {"q": "q"}, "{odd}": "a column", "answer": "1"}""", template).Question
        );

    [Theory]
    [InlineData("""{"prompt": [{"role": "user", "content": "2+2?"}], "solution": "4"}""")]
    [InlineData(
        """{"prompt": [{"content": "2+2?", "role": "user"}], "reward_model": {"ground_truth": "4"}, "extra_info": {"answer": "x"}}"""
    )]
    [InlineData(
        """{"prompt": [{"role": "user", "content": [{"type": "text", "text": "2+2?"}], "tool_calls": null}], "answer": "4", "info": {}}"""
    )]
    [InlineData(
        """{"prompt": [{"role": "user", "content": "2+2?"}], "verification_info": "{\"ground_truth\": \"4\"}"}"""
    )]
    [InlineData("""{"prompt": "[{\"role\": \"user\", \"content\": \"2+2?\"}]", "answer": "4"}""")]
    [InlineData("""{"messages": [{"from": "human", "value": "2+2?"}], "ground_truth": 4}""")]
    public void Prompts_of_messages_are_recognised(string row)
    {
        var problem = First(row);
        Assert.Equal(("2+2?", "4"), (problem.Question, problem.Answer));
        Assert.Equal([new ChatMessage("user", "2+2?")], problem.Messages!);
    }

    [Fact]
    public void Messages_keep_their_order_and_further_members()
    {
        var problem = First(
            """{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, """
                + """{"role": "tool", "content": null, "name": "n"}], "answer": "a"}"""
        );
        Assert.Equal("q", problem.Question);
        Assert.Equal(["system s", "user q", "tool "], problem.Messages!.Select(m => $"{m.Role} {m.Content}"));
        Assert.Equal("""{"name":"n"}""", problem.Messages![2].Other!.ToJsonString());
    }

    [Theory]
    [InlineData("""[{"role": "user"}]""", "message 1: expected a message such as")]
    [InlineData("""[{"role": "user", "content": "q"}, 3]""", "message 2: expected a message such as")]
    [InlineData("""[{"role": "user", "content": {"a": 1}}]""", "the content should be text")]
    [InlineData("""[{"role": "user", "content": [{"type": "image"}]}]""", "only parts of type text")]
    [InlineData("""[{"role": "assistant", "content": "a"}]""", "ends with a message of the assistant")]
    public void Broken_messages_are_refused_with_row_and_column(string prompt, string message)
    {
        string found = Refused(Source($$"""{"prompt": {{prompt}}, "answer": "a"}"""));
        Assert.Contains("x.jsonl:1: column 'prompt'", found);
        Assert.Contains(message, found);
    }

    [Fact]
    public void A_countdown_row_keeps_its_own_question()
    {
        var own = First(
            """{"question":"My own words: reach 6 with 1 2 3.","nums":[1,2,3],"target":6,"answer":"1+2+3"}"""
        );
        Assert.Equal(("My own words: reach 6 with 1 2 3.", "6"), (own.Question, own.Answer));
        var made = First("""{"nums":[1,2,3],"target":6}""");
        Assert.StartsWith("Using the numbers [1, 2, 3], create an expression that equals 6.", made.Question);
        var verl = First("""{"nums":[1,2],"target":3,"prompt":[{"role":"user","content":"go"}]}""");
        Assert.Equal("go", verl.Messages![0].Content);
    }

    [Fact]
    public void Columns_are_found_in_any_row_not_only_the_first()
    {
        var source = Source("{\"text\": \"x\"}\n{\"question\": \"q\", \"answer\": \"a\"}");
        Assert.Equal("q", Dataset.Load(source).Single().Question);
    }

    [Fact]
    public void Rows_may_have_no_answer_when_the_recipe_says_so() =>
        Assert.Equal("", First("""{"question": "q"}""", answer: "").Answer);

    [Fact]
    public void Problems_know_their_row_and_their_source()
    {
        var problem = First("""{"question": "q", "answer": "a"}""");
        Assert.Equal((Path.Combine(Folder, "x.jsonl:1"), "x"), (problem.Origin, problem.Source));
    }
}
