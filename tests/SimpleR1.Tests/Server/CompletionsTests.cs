using System.Text.Json;
using SimpleR1.Inference;
using Xunit;

namespace SimpleR1.Tests.Server;

/// <summary>/v1/completions, field by field.</summary>
public sealed class CompletionsTests
{
    private const string Path = "/v1/completions";
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static string[] Texts(JsonElement answer) =>
        [.. answer.GetProperty("choices").EnumerateArray().Select(c => c.GetProperty("text").GetString()!)];

    private static int[] Ids(JsonElement list) => [.. list.EnumerateArray().Select(e => e.GetInt32())];

    private static float[] Numbers(JsonElement list) => [.. list.EnumerateArray().Select(e => e.GetSingle())];

    [Fact]
    public async Task Answer_is_what_the_engine_samples_with_the_same_seed()
    {
        await using var server = await TestServer.StartAsync();
        int[] prompt = TestServer.Tokenizer.Encode("Q: 1+2");
        var answer = await server.CompleteAsync(
            "\"model\":\"tiny\",\"prompt\":\"Q: 1+2\",\"n\":3,\"seed\":5,\"max_tokens\":12,"
                + "\"temperature\":0.8,\"top_k\":50,\"top_p\":0.95,\"min_p\":0.001,"
                + "\"presence_penalty\":0.5,\"frequency_penalty\":0.25,\"repetition_penalty\":1.1,"
                + "\"return_token_ids\":true,\"logprobs\":0"
        );

        var sampling = new SamplingParameters
        {
            Samples = 3,
            Seed = 5,
            MaxTokens = 12,
            Temperature = 0.8,
            TopK = 50,
            TopP = 0.95,
            MinP = 0.001,
            PresencePenalty = 0.5,
            FrequencyPenalty = 0.25,
            RepetitionPenalty = 1.1,
        };
        var expected = new Completion[3];
        await foreach (var e in server.Source.StreamAsync(new("r", prompt, sampling), Token))
            if (e.Completion is { } done)
                expected[done.SampleIndex] = done;
        var choices = answer.GetProperty("choices").EnumerateArray().ToArray();
        Assert.Equal([0, 1, 2], choices.Select(c => c.GetProperty("index").GetInt32()));
        foreach (var (completion, choice) in expected.Zip(choices))
            AssertSame(completion, choice);
        Assert.Equal(prompt, Ids(choices[0].GetProperty("prompt_token_ids")));
        var usage = answer.GetProperty("usage");
        Assert.Equal(
            (prompt.Length, expected.Sum(c => c.Tokens.Length)),
            (usage.GetProperty("prompt_tokens").GetInt32(), usage.GetProperty("completion_tokens").GetInt32())
        );
        Assert.Equal(prompt.Length + expected.Sum(c => c.Tokens.Length), usage.GetProperty("total_tokens").GetInt32());
        Assert.Equal("weights-0", answer.GetProperty("system_fingerprint").GetString());
    }

    private static void AssertSame(Completion expected, JsonElement choice)
    {
        Assert.Equal(expected.Text, choice.GetProperty("text").GetString());
        Assert.Equal(expected.Tokens, Ids(choice.GetProperty("token_ids")));
        Assert.Equal(expected.LogProbs, Numbers(choice.GetProperty("logprobs").GetProperty("token_logprobs")));
        Assert.Equal(
            expected.FinishReason == FinishReason.Stop ? "stop" : "length",
            choice.GetProperty("finish_reason").GetString()
        );
    }

    [Fact]
    public async Task Prompts_as_texts_and_as_ids_give_the_same_in_order()
    {
        await using var server = await TestServer.StartAsync();
        string Ids(string text) => $"[{string.Join(',', TestServer.Tokenizer.Encode(text))}]";
        const string rest = "\"seed\":3,\"max_tokens\":6,\"n\":2,\"ignore_eos\":true";
        string[] texts = [],
            both = Texts(await server.CompleteAsync($"\"prompt\":[\"ab\",\"xyz\"],{rest}"));
        foreach (string text in (string[])["ab", "xyz"])
        {
            string[] alone = Texts(await server.CompleteAsync($"\"prompt\":\"{text}\",{rest}"));
            Assert.Equal(alone, Texts(await server.CompleteAsync($"\"prompt\":{Ids(text)},{rest}")));
            texts = [.. texts, .. alone];
        }
        Assert.Equal(texts, both);
        Assert.Equal(both, Texts(await server.CompleteAsync($"\"prompt\":[{Ids("ab")},{Ids("xyz")}],{rest}")));
    }

    [Fact]
    public async Task Stream_is_the_same_answer_in_pieces()
    {
        await using var server = await TestServer.StartAsync();
        const string fields =
            "\"prompt\":[\"a\",\"b\"],\"n\":2,\"seed\":9,\"max_tokens\":20,\"logprobs\":0,\"return_token_ids\":true";
        var whole = await server.CompleteAsync(fields);
        var events = await server.StreamAsync(
            Path,
            $"{{{fields},\"stream\":true,\"stream_options\":{{\"include_usage\":true}}}}"
        );

        Assert.Equal(0, events[^1].GetProperty("choices").GetArrayLength());
        Assert.Equal(
            whole.GetProperty("usage").GetProperty("completion_tokens").GetInt32(),
            events[^1].GetProperty("usage").GetProperty("completion_tokens").GetInt32()
        );
        Assert.True(events.Count > 40, $"only {events.Count} events for some 80 tokens");
        Assert.Single(events.Select(e => e.GetProperty("id").GetString()).Distinct());
        var pieces = events[..^1]
            .Select(e => e.GetProperty("choices")[0])
            .ToLookup(c => c.GetProperty("index").GetInt32());
        foreach (var choice in whole.GetProperty("choices").EnumerateArray())
            AssertSame(choice, [.. pieces[choice.GetProperty("index").GetInt32()]]);
    }

    /// <summary>Asserts that the pieces of a stream add up to a choice of a whole answer.</summary>
    private static void AssertSame(JsonElement choice, JsonElement[] pieces)
    {
        Assert.Equal(
            choice.GetProperty("text").GetString(),
            string.Concat(pieces.Select(p => p.GetProperty("text").GetString()))
        );
        var (end, tokens) = (pieces[^1], pieces[..^1]); // clients may stop at a finish reason
        Assert.Equal("", end.GetProperty("text").GetString());
        Assert.Equal(Ids(choice.GetProperty("token_ids")), tokens.SelectMany(p => Ids(p.GetProperty("token_ids"))));
        Assert.Equal(
            Numbers(choice.GetProperty("logprobs").GetProperty("token_logprobs")),
            tokens.SelectMany(p => Numbers(p.GetProperty("logprobs").GetProperty("token_logprobs")))
        );
        Assert.Equal(
            Ids(choice.GetProperty("logprobs").GetProperty("text_offset")),
            tokens.SelectMany(p => Ids(p.GetProperty("logprobs").GetProperty("text_offset")))
        );
        Assert.All(tokens, p => Assert.Equal(JsonValueKind.Null, p.GetProperty("finish_reason").ValueKind));
        Assert.Equal(choice.GetProperty("finish_reason").GetString(), end.GetProperty("finish_reason").GetString());
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Log_probs_hold_the_drawn_token_and_the_most_probable(bool stream)
    {
        await using var server = await TestServer.StartAsync();
        const string fields =
            "\"prompt\":\"a\",\"seed\":2,\"max_tokens\":10,\"logprobs\":3,\"ignore_eos\":true,"
            + "\"return_tokens_as_token_ids\":true";
        var parts = stream
            ? (await server.StreamAsync(Path, $"{{{fields},\"stream\":true}}")).Select(e => e.GetProperty("choices")[0])
            : [(await server.CompleteAsync(fields)).GetProperty("choices")[0]];
        var probs = parts
            .Select(p => p.GetProperty("logprobs"))
            .Where(l => l.ValueKind != JsonValueKind.Null)
            .ToArray();
        string[] tokens =
        [
            .. probs.SelectMany(l => l.GetProperty("tokens").EnumerateArray().Select(t => t.GetString()!)),
        ];
        float[] drawn = [.. probs.SelectMany(l => Numbers(l.GetProperty("token_logprobs")))];
        var tops = probs
            .SelectMany(l =>
                l.GetProperty("top_logprobs")
                    .EnumerateArray()
                    .Select(t => t.EnumerateObject().ToDictionary(p => p.Name, p => p.Value.GetSingle()))
            )
            .ToArray();
        Assert.Equal(10, tokens.Length);
        for (int i = 0; i < 10; i++)
        {
            Assert.StartsWith("token_id:", tokens[i]);
            Assert.InRange(tops[i].Count, 3, 4);
            Assert.Equal(drawn[i], tops[i][tokens[i]]);
            Assert.True(tops[i].Values.Max() >= drawn[i]);
        }
    }

    [Fact]
    public async Task Stop_strings_and_biases_do_what_they_say()
    {
        await using var server = await TestServer.StartAsync();
        int a = TestServer.Tokenizer.Encode("a")[0];
        // Greedy, with 'a' forced; a stop string ends it.
        var forced = (
            await server.CompleteAsync(
                $"\"prompt\":\"x\",\"temperature\":0,\"max_tokens\":10,\"logit_bias\":{{\"{a}\":100}},"
                    + "\"stop\":[\"aaa\"]"
            )
        ).GetProperty("choices")[0];
        Assert.Equal(
            ("", "stop"),
            (forced.GetProperty("text").GetString(), forced.GetProperty("finish_reason").GetString())
        );
        Assert.Equal(
            ["aaa"],
            Texts(
                await server.CompleteAsync(
                    $"\"prompt\":\"x\",\"temperature\":0,\"max_tokens\":10,\"logit_bias\":{{\"{a}\":100}},"
                        + "\"stop\":\"aaa\",\"include_stop_str_in_output\":true"
                )
            )
        );
        Assert.Equal(
            ["aaaaa"],
            Texts(
                await server.CompleteAsync(
                    $"\"prompt\":\"x\",\"temperature\":0,\"max_tokens\":5,\"logit_bias\":{{\"{a}\":100}}"
                )
            )
        );
    }

    [Fact]
    public async Task Stop_ids_end_a_completion_but_not_before_min_tokens()
    {
        await using var server = await TestServer.StartAsync();
        int a = TestServer.Tokenizer.Encode("a")[0];
        int b = TestServer.Tokenizer.Encode("b")[0];
        var ended = (
            await server.CompleteAsync(
                $"\"prompt\":\"x\",\"temperature\":0,\"max_tokens\":9,\"logit_bias\":{{\"{a}\":100}},"
                    + $"\"stop_token_ids\":[{a}],\"return_token_ids\":true"
            )
        ).GetProperty("choices")[0];
        Assert.Equal([a], Ids(ended.GetProperty("token_ids")));
        Assert.Equal("stop", ended.GetProperty("finish_reason").GetString());
        ended = (
            await server.CompleteAsync(
                "\"prompt\":\"x\",\"temperature\":0,\"max_tokens\":9,\"min_tokens\":3,"
                    + $"\"logit_bias\":{{\"{a}\":100,\"{b}\":50}},\"stop_token_ids\":[{a}],"
                    + "\"return_token_ids\":true"
            )
        ).GetProperty("choices")[0];
        Assert.Equal([b, b, b, a], Ids(ended.GetProperty("token_ids")));
    }

    [Theory]
    [InlineData("\"prompt\":\"a\",\"echo\":true", "echo")]
    [InlineData("\"prompt\":\"a\",\"suffix\":\"b\"", "suffix")]
    [InlineData("\"prompt\":\"a\",\"best_of\":2", "best_of")]
    [InlineData("\"prompt\":\"a\",\"max_token\":2", "max_token")]
    [InlineData("\"prompt\":\"a\",\"max_tokens\":0", "max_tokens")]
    [InlineData("\"prompt\":\"a\",\"max_tokens\":1.5", "max_tokens")]
    [InlineData("\"prompt\":\"a\",\"max_tokens\":5000", "max_tokens")]
    [InlineData("\"prompt\":\"a\",\"max_tokens\":2,\"min_tokens\":3", "min_tokens")]
    [InlineData("\"prompt\":\"a\",\"temperature\":-1", "temperature")]
    [InlineData("\"prompt\":\"a\",\"temperature\":\"hot\"", "temperature")]
    [InlineData("\"prompt\":\"a\",\"top_p\":0", "top_p")]
    [InlineData("\"prompt\":\"a\",\"top_k\":-2", "top_k")]
    [InlineData("\"prompt\":\"a\",\"presence_penalty\":3", "presence_penalty")]
    [InlineData("\"prompt\":\"a\",\"logit_bias\":{\"9999\":1}", "logit_bias")]
    [InlineData("\"prompt\":\"a\",\"logit_bias\":{\"1\":1e9}", "logit_bias")]
    [InlineData("\"prompt\":\"a\",\"logit_bias\":[1]", "logit_bias")]
    [InlineData("\"prompt\":\"a\",\"stop\":[\"\"]", "stop")]
    [InlineData("\"prompt\":\"a\",\"stop_token_ids\":[-1]", "stop_token_ids")]
    [InlineData("\"prompt\":\"a\",\"logprobs\":21", "logprobs")]
    [InlineData("\"prompt\":\"a\",\"n\":1000000", "n")]
    [InlineData("\"prompt\":\"a\",\"seed\":1e30", "seed")]
    [InlineData("\"prompt\":\"a\",\"stream_options\":{\"include_usage\":true}", "stream_options")]
    [InlineData("\"prompt\":\"a\",\"stream\":true,\"stream_options\":{\"more\":true}", "stream_options.more")]
    [InlineData("\"prompt\":\"a\",\"response_format\":{\"type\":\"json_object\"}", "response_format")]
    [InlineData("\"prompt\":\"a\",\"guided_json\":{}", "guided_json")]
    [InlineData("\"prompt\":[1,\"a\"]", "prompt")]
    [InlineData("\"prompt\":[[1],\"a\"]", "prompt")]
    [InlineData("\"prompt\":[\"a\",1]", "prompt")]
    [InlineData("\"prompt\":[]", "prompt")]
    [InlineData("\"prompt\":[[]]", "prompt")]
    [InlineData("\"prompt\":\"\"", "prompt")]
    [InlineData("\"prompt\":[-1]", "prompt")]
    [InlineData("\"prompt\":[261]", "prompt")]
    [InlineData("\"prompt\":[1.5]", "prompt")]
    [InlineData("\"prompt\":{}", "prompt")]
    [InlineData("\"n\":1", "prompt")]
    public async Task Wrong_field_is_a_400_that_names_it(string fields, string param)
    {
        await using var server = await TestServer.StartAsync();
        var (status, message, named, _) = await server.FailAsync(Path, $"{{{fields}}}");
        Assert.Equal((400, param), (status, named));
        Assert.Contains(param, message);
    }

    [Fact]
    public async Task Without_a_length_a_completion_has_16_tokens_or_what_the_context_leaves()
    {
        await using var server = await TestServer.StartAsync();
        Assert.Equal(
            16,
            (await server.CompleteAsync("\"prompt\":\"x\",\"ignore_eos\":true"))
                .GetProperty("usage")
                .GetProperty("completion_tokens")
                .GetInt32()
        );
        string prompt = string.Join(',', Enumerable.Repeat(65, 4090));
        Assert.Equal(
            6,
            (await server.CompleteAsync($"\"prompt\":[{prompt}],\"ignore_eos\":true"))
                .GetProperty("usage")
                .GetProperty("completion_tokens")
                .GetInt32()
        );
        var (_, message, _, _) = await server.FailAsync(Path, "{\"prompt\":\"a\",\"max_tokens\":0}");
        Assert.Equal("max_tokens: expected a whole number from 1 to 2147483647, found 0", message);
    }

    [Fact]
    public async Task All_mistakes_are_reported_together_with_suggestions()
    {
        await using var server = await TestServer.StartAsync();
        var (_, message, _, _) = await server.FailAsync(
            Path,
            "{\"prompt\":7,\"n\":0,\"temperature\":true,\"maxtokens\":3}"
        );
        foreach (
            string part in (string[])
                [
                    "prompt: expected a text",
                    "found 7",
                    "n: expected a whole number from 1 to 128, found 0",
                    "temperature: expected a number",
                    "found true",
                    "maxtokens: unknown field; did you mean max_tokens?",
                ]
        )
            Assert.Contains(part, message);
    }

    [Fact]
    public async Task Harmless_fields_are_taken_and_another_model_is_a_404()
    {
        await using var server = await TestServer.StartAsync();
        await server.CompleteAsync(
            "\"prompt\":\"a\",\"user\":\"u\",\"metadata\":{},\"suffix\":null,\"echo\":false,"
                + "\"best_of\":1,\"stop\":null,\"top_k\":-1,\"skip_special_tokens\":true,"
                + "\"response_format\":{\"type\":\"text\"}"
        );
        var (status, message, param, _) = await server.FailAsync(Path, "{\"model\":\"gpt-9\",\"prompt\":\"a\"}");
        Assert.Equal((404, "model"), (status, param));
        Assert.Contains("'tiny'", message);
    }
}
