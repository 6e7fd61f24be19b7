using System.ClientModel;
using OpenAI;
using OpenAI.Chat;
using SimpleR1.Inference;
using SimpleR1.Models.Prompts;
using Xunit;
using ChatMessage = OpenAI.Chat.ChatMessage;

namespace SimpleR1.Tests.Server;

/// <summary>The official OpenAI package as the client.</summary>
public sealed class OpenAIClientTests
{
    private const string Key = "secret-key-1";
    private static CancellationToken Token => TestContext.Current.CancellationToken;
    private static readonly ChatMessage[] Conversation =
    [
        new SystemChatMessage("Be brief."),
        new UserChatMessage("1+1?"),
        new AssistantChatMessage("2"),
        new UserChatMessage(ChatMessageContentPart.CreateTextPart("2+"), ChatMessageContentPart.CreateTextPart("2?")),
    ];
    private const string Rendered =
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        + "<|im_start|>user\n1+1?<|im_end|>\n"
        + "<|im_start|>assistant\n2<|im_end|>\n"
        + "<|im_start|>user\n2+\n2?<|im_end|>\n"
        + "<|im_start|>assistant\n";

    private static OpenAIClient Client(TestServer server, string key = Key) =>
        new(
            new ApiKeyCredential(key),
            new OpenAIClientOptions
            {
                Endpoint = new(server.Server.Address, "v1"),
                RetryPolicy = new System.ClientModel.Primitives.ClientRetryPolicy(0),
            }
        );

    private static Task<TestServer> StartAsync() =>
        TestServer.StartAsync(new() { ApiKeys = ["another-key", Key], ChatTemplate = PromptTemplate.Create("chatml") });

    private static async Task<Completion> EngineAsync(TestServer server, SamplingParameters sampling)
    {
        await foreach (
            var e in server.Source.StreamAsync(new("r", TestServer.Tokenizer.EncodePrompt(Rendered), sampling), Token)
        )
            if (e.Completion is { } done)
                return done;
        throw new InvalidOperationException("no completion");
    }

    [Fact]
    public async Task Chat_completes_with_log_probs_and_usage()
    {
        await using var server = await StartAsync();
        var options = new ChatCompletionOptions
        {
            MaxOutputTokenCount = 12,
            Temperature = 0.9f,
            TopP = 0.9f,
            IncludeLogProbabilities = true,
            TopLogProbabilityCount = 2,
            PresencePenalty = 0.5f,
            FrequencyPenalty = 0.25f,
            EndUserId = "u",
        };
        options.LogitBiases[65] = 3;
        options.StopSequences.Add("never in there");
#pragma warning disable OPENAI001 // the seed is marked experimental
        options.Seed = 11;
#pragma warning restore OPENAI001
        ChatCompletion answer = await Client(server)
            .GetChatClient(TestServer.Model)
            .CompleteChatAsync(Conversation, options, Token);
        var expected = await EngineAsync(
            server,
            new()
            {
                MaxTokens = 12,
                Temperature = 0.9f,
                TopP = 0.9f,
                PresencePenalty = 0.5,
                FrequencyPenalty = 0.25,
                Seed = 11,
                TopLogProbs = 2,
                LogitBias = new Dictionary<int, float> { [65] = 3 },
                StopStrings = ["never in there"],
            }
        );
        AssertSame(expected, answer);
    }

    private static void AssertSame(Completion expected, ChatCompletion answer)
    {
        Assert.Equal(expected.Text, answer.Content[0].Text);
        Assert.Equal(
            expected.FinishReason == FinishReason.Stop ? ChatFinishReason.Stop : ChatFinishReason.Length,
            answer.FinishReason
        );
        Assert.Equal(
            (TestServer.Tokenizer.EncodePrompt(Rendered).Length, expected.Tokens.Length),
            (answer.Usage.InputTokenCount, answer.Usage.OutputTokenCount)
        );
        CheckLogProbs(expected, answer.ContentTokenLogProbabilities);
        Assert.Equal((TestServer.Model, ChatMessageRole.Assistant), (answer.Model, answer.Role));
    }

    private static void CheckLogProbs(Completion expected, IReadOnlyList<ChatTokenLogProbabilityDetails> found)
    {
        Assert.Equal(expected.LogProbs, found.Select(t => t.LogProbability));
        Assert.Equal(
            expected.Tokens.Select(t => TestServer.Tokenizer.TokenBytes(t).ToArray()),
            found.Select(t => t.Utf8Bytes!.Value.ToArray())
        );
        Assert.Equal(
            expected.TopLogProbs!.SelectMany(t => t.Select(p => p.LogProb)),
            found.SelectMany(t => t.TopLogProbabilities.Select(p => p.LogProbability))
        );
    }

    [Theory, InlineData(false), InlineData(true)]
    public async Task Chat_streams_the_same_text(bool alternatives)
    {
        await using var server = await StartAsync();
#pragma warning disable OPENAI001
        var options = new ChatCompletionOptions
        {
            MaxOutputTokenCount = 40,
            Seed = 4,
            IncludeLogProbabilities = true,
            TopLogProbabilityCount = alternatives ? 1 : null,
        };
#pragma warning restore OPENAI001
        string text = "";
        var (updates, logProbs) = (0, new List<float>());
        ChatFinishReason? reason = null;
        ChatTokenUsage? usage = null;
        await foreach (
            var update in Client(server)
                .GetChatClient(TestServer.Model)
                .CompleteChatStreamingAsync(Conversation, options, Token)
        )
        {
            updates++;
            text += string.Concat(update.ContentUpdate.Select(c => c.Text));
            logProbs.AddRange(update.ContentTokenLogProbabilities.Select(t => t.LogProbability));
            reason ??= update.FinishReason;
            usage ??= update.Usage;
        }
        var expected = await EngineAsync(
            server,
            new()
            {
                MaxTokens = 40,
                Seed = 4,
                TopLogProbs = alternatives ? 1 : 0,
            }
        );
        Assert.Equal(expected.Text, text);
        Assert.Equal(expected.LogProbs, logProbs);
        Assert.Equal(expected.Tokens.Length, usage?.OutputTokenCount);
        Assert.NotNull(reason);
        Assert.True(updates > 3);
    }

    [Fact]
    public async Task Leaving_a_stream_frees_the_engine()
    {
        // So many tokens take minutes: the client has left long before the last, however busy the machine is.
        const int endless = 250_000;
        var config = TinyModels.Config(vocabulary: TestServer.Tokenizer.VocabularySize) with
        {
            EosTokenIds = [256],
            MaxPositions = endless + 1_000,
        };
        await using var server = await TestServer.StartAsync(
            new() { ApiKeys = [Key], ChatTemplate = PromptTemplate.Create("chatml") },
            new() { KvCacheBytes = 256 << 20 },
            TinyModels.Random(config)
        );
        var options = new ChatCompletionOptions { MaxOutputTokenCount = endless };
        options.LogitBiases[256] = -100; // so that the completion is long
        await foreach (
            var _ in Client(server)
                .GetChatClient(TestServer.Model)
                .CompleteChatStreamingAsync(Conversation, options, Token)
        )
            break;
        await server.IdleAsync();
        Assert.True(server.Source.Statistics.SampledTokens < endless);
    }

    [Fact]
    public async Task Models_are_listed()
    {
        await using var server = await StartAsync();
        var models = await Client(server).GetOpenAIModelClient().GetModelsAsync(Token);
        Assert.Equal([TestServer.Model], models.Value.Select(m => m.Id));
        Assert.Equal(
            "simple-r1",
            (await Client(server).GetOpenAIModelClient().GetModelAsync(TestServer.Model, Token)).Value.OwnedBy
        );
    }

    [Fact]
    public async Task Errors_are_the_packages_own_with_our_message()
    {
        await using var server = await StartAsync();
        async Task<ClientResultException> Error(string model, string key, ChatCompletionOptions options) =>
            await Assert.ThrowsAsync<ClientResultException>(() =>
                Client(server, key).GetChatClient(model).CompleteChatAsync(Conversation, options, Token)
            );
        var unauthorized = await Error(TestServer.Model, "not-the-key", new());
        Assert.Equal(401, unauthorized.Status);
        Assert.Contains("not one of this server's", unauthorized.Message);
        Assert.Equal(404, (await Error("other", Key, new())).Status);
        var refused = await Error(TestServer.Model, Key, new() { Tools = { ChatTool.CreateFunctionTool("f") } });
        Assert.Equal(400, refused.Status);
        Assert.Contains("tools: the chat template of this model has no place for tools", refused.Message);
    }

    [Theory]
    [InlineData("r1-zero", "[{\"role\":\"user\",\"content\":\"1+1?\"}]", null)]
    [InlineData(
        "r1-zero",
        "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"1+1?\"}]",
        "takes exactly one message"
    )]
    [InlineData("chatml", "[{\"role\":\"robot\",\"content\":\"1+1?\"}]", "role 'robot'")]
    [InlineData(
        "chatml",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{}}]}]",
        "expected a list of {role, content}"
    )]
    [InlineData("chatml", "[]", "no messages")]
    [InlineData(null, "[{\"role\":\"user\",\"content\":\"1+1?\"}]", "--template")]
    public async Task Messages_become_a_prompt_by_the_servers_template_or_a_400(
        string? template,
        string messages,
        string? problem
    )
    {
        await using var server = await TestServer.StartAsync(
            new() { ChatTemplate = template is null ? null : PromptTemplate.Create(template) }
        );
        if (problem is not null)
        {
            var (status, message, param, _) = await server.FailAsync(
                "/v1/chat/completions",
                $"{{\"messages\":{messages}}}"
            );
            Assert.Equal((400, "messages"), (status, param));
            Assert.Contains(problem, message);
            return;
        }
        var tokens = await server.PostAsync("/tokenize", $"{{\"messages\":{messages}}}");
        Assert.Equal(
            TestServer.Tokenizer.EncodePrompt(PromptTemplate.Create("r1-zero").Render("1+1?")),
            tokens.GetProperty("tokens").EnumerateArray().Select(t => t.GetInt32())
        );
        await server.PostAsync("/v1/chat/completions", $"{{\"messages\":{messages},\"max_tokens\":3}}");
    }
}
