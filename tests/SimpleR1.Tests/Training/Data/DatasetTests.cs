using System.Text.Json.Nodes;
using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Rewards.Mathematics;
using Xunit;

namespace SimpleR1.Tests.Training.Data;

public sealed class DatasetTests : DataFolder
{
    private static IReadOnlyList<Problem> Load(
        string path,
        DataColumns? columns = null,
        DataFormat format = DataFormat.Auto
    ) =>
        Dataset.Load(
            new()
            {
                Path = path,
                Columns = columns ?? new(),
                Format = format,
            }
        );

    [Fact]
    public void Load_of_gsm8k_takes_the_gold_after_the_last_hashes()
    {
        string path = Write(
            "g.jsonl",
            """
            {"question": "Half of 2,500?", "answer": "2500/2 = <<2500/2=1250>>1,250\n#### 1,250"}

            {"question": "1+1?", "answer": "#### 2"}
            """
        );
        var problems = Load(path);
        Assert.Equal(["1,250", "2"], problems.Select(p => p.Answer));
        Assert.Equal("Half of 2,500?", problems[0].Question);
        Assert.EndsWith("#### 1,250", (string)problems[0].Fields["answer"]!);
    }

    [Fact]
    public void Load_of_bad_json_names_the_line()
    {
        string path = Write("bad.jsonl", "{\"question\": \"a\", \"answer\": \"b\"}\n{\"question\": \n");
        Assert.StartsWith($"{path}:2: not valid JSON", Assert.Throws<InvalidDataException>(() => Load(path)).Message);
        path = Write("list.jsonl", "[1, 2]\n");
        Assert.StartsWith(
            $"{path}:1: expected a JSON object",
            Assert.Throws<InvalidDataException>(() => Load(path)).Message
        );
    }

    [Fact]
    public void Load_of_a_file_without_rows_says_so() =>
        Assert.Contains(
            "no rows",
            Assert.Throws<InvalidDataException>(() => Load(Write("empty.jsonl", "\n\n"))).Message
        );

    [Fact]
    public void Load_of_a_missing_file_gives_its_full_path() =>
        Assert.Contains(
            Path.Combine(Folder, "none.jsonl"),
            Assert.Throws<FileNotFoundException>(() => Load(Path.Combine(Folder, "none.jsonl"))).Message
        );

    [Fact]
    public void Load_with_a_missing_column_names_it_and_those_found()
    {
        string path = Write("cols.jsonl", "{\"text\": \"a\", \"answer\": \"b\"}\n{\"answer\": \"b\"}\n");
        string message = Assert.Throws<InvalidDataException>(() => Load(path)).Message;
        Assert.Contains("question", message);
        Assert.Contains("found 'text', 'answer'", message);
        Assert.Single(Load(path, new() { Question = "text" }));
        Assert.Contains(
            "'nums' and 'target'",
            Assert.Throws<InvalidDataException>(() => Load(path, null, DataFormat.Countdown)).Message
        );
        Assert.Contains(
            "ends in '#### n'",
            Assert.Throws<InvalidDataException>(() => Load(path, new() { Question = "text" }, DataFormat.Gsm8k)).Message
        );
    }

    [Fact]
    public void Load_of_text_without_questions_leaves_them_empty()
    {
        var problem = Load(
                Write("t.jsonl", "{\"text\": \"once upon a time\"}\n"),
                new() { Question = "", Answer = "text" }
            )
            .Single();
        Assert.Equal(("", "once upon a time"), (problem.Question, problem.Answer));
    }

    [Fact]
    public void Load_with_skip_take_and_shuffle_is_the_same_each_time()
    {
        string path = Write(
            "n.jsonl",
            string.Join("\n", Enumerable.Range(0, 20).Select(i => $"{{\"question\": \"q{i}\", \"answer\": {i}.0}}"))
        );
        Assert.Equal(
            ["5.0", "6.0", "7.0"],
            Dataset
                .Load(
                    new()
                    {
                        Path = path,
                        Skip = 5,
                        Take = 3,
                    }
                )
                .Select(p => p.Answer)
        );
        var source = new DataSource
        {
            Path = path,
            Shuffle = true,
            Seed = 4,
        };
        var first = Dataset.Load(source).Select(p => p.Answer).ToList();
        Assert.Equal(first, Dataset.Load(source).Select(p => p.Answer));
        Assert.NotEqual(first, Dataset.Load(source with { Seed = 5 }).Select(p => p.Answer));
        Assert.Equal(Enumerable.Range(0, 20).Select(i => $"{i}.0").Order(), first.Order());
        Assert.Equal(first[18..], Dataset.Load(source with { Skip = 18 }).Select(p => p.Answer));
        Assert.Contains(
            "more than its 20 rows",
            Assert.Throws<InvalidDataException>(() => Dataset.Load(source with { Take = 21 })).Message
        );
    }

    [Theory]
    [InlineData("gsm8k/test-first100.parquet", "gsm8k/test.jsonl")]
    [InlineData("svamp/test.parquet", "svamp/test.jsonl")]
    public void Load_of_parquet_equals_the_jsonl(string parquet, string jsonl)
    {
        var columns = jsonl.StartsWith("svamp", StringComparison.Ordinal)
            ? new DataColumns { Question = "{Body} {Question}", Answer = "Answer" }
            : new();
        var expected = Load(SharedData.Require(jsonl), columns);
        var found = Load(SharedData.Require(parquet), columns);
        Assert.Equal(parquet.Contains("100") ? 100 : expected.Count, found.Count);
        for (int i = 0; i < found.Count; i++)
        {
            Assert.Equal((expected[i].Question, expected[i].Answer), (found[i].Question, found[i].Answer));
            Assert.Equal(expected[i].Fields.Keys.Order(), found[i].Fields.Keys.Order());
            foreach (var (name, value) in expected[i].Fields)
                Assert.Equal(Text(value), Text(found[i].Fields[name]));
        }

        static string? Text(JsonNode? value) =>
            value is JsonValue v && v.TryGetValue(out double d) ? d.ToString("R") : value?.ToString();
    }

    [Fact]
    public void Load_of_the_other_layouts_works_by_columns()
    {
        Assert.Equal(@"\left( 3, \frac{\pi}{2} \right)", Load(SharedData.Require("math500/test.jsonl"))[0].Answer);
        Assert.Equal("204", Load(SharedData.Require("aime24/test.jsonl"), new() { Answer = "answer" })[0].Answer);
        var svamp = Load(SharedData.Require("svamp/test.jsonl"), new() { Question = "{Body} {Question}" })[0];
        Assert.Equal("145.0", svamp.Answer);
        Assert.EndsWith("93 groups How big is each group of bananas?", svamp.Question);
        var countdown = Load(SharedData.Require("countdown/train.jsonl"));
        Assert.Equal(10240, countdown.Count);
        Assert.StartsWith(
            "Using the numbers [44, 19, 35], create an expression that equals 98.",
            countdown[0].Question
        );
    }

    [Fact]
    public void Load_of_a_damaged_parquet_file_names_it() =>
        Assert.Contains(
            "x.parquet: can't be read as parquet",
            Assert.Throws<InvalidDataException>(() => Load(Write("x.parquet", "PAR1 nonsense PAR1"))).Message
        );

    [Fact]
    public void Gold_answers_of_gsm8k_match_their_numbers_without_commas()
    {
        var problems = Load(SharedData.Require("gsm8k/test.jsonl"));
        Assert.Equal(1319, problems.Count);
        Assert.All(problems, p => Assert.True(MathAnswers.Match(p.Answer, p.Answer.Replace(",", "")), p.Origin));
        Assert.All(problems, p => Assert.True(MathAnswers.Match(p.Answer, p.Answer), p.Origin));
        Assert.Contains(problems, p => p.Answer.Contains(','));
    }
}
