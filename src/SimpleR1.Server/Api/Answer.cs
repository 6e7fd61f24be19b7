using System.Text.Json.Serialization;
using SimpleR1.Inference;

namespace SimpleR1.Server.Api;

/// <summary>An answer, or one event of a stream, in the shape of either API.</summary>
internal sealed record Answer
{
    public required string Id { get; init; }

    /// <summary>The kind of answer, in OpenAI's words.</summary>
    public required string Object { get; init; }
    public required long Created { get; init; }
    public required string Model { get; init; }

    /// <summary>Which version of the weights answered.</summary>
    public required string SystemFingerprint { get; init; }
    public required IReadOnlyList<object> Choices { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public Usage? Usage { get; init; }
}

/// <summary>The tokens of a request and its answer.</summary>
internal sealed record Usage(int PromptTokens, int CompletionTokens, int TotalTokens, Usage.Details PromptTokensDetails)
{
    internal sealed record Details(int CachedTokens);

    public static Usage Of(IReadOnlyList<int[]> prompts, IReadOnlyCollection<Completion> completions)
    {
        int promptTokens = prompts.Sum(p => p.Length);
        int completionTokens = completions.Sum(c => c.Tokens.Length);
        // All samples of a prompt share its cached tokens: count them once.
        int cachedTokens = completions.Where(c => c.SampleIndex == 0).Sum(c => c.CachedPromptTokens);
        return new(promptTokens, completionTokens, promptTokens + completionTokens, new(cachedTokens));
    }
}

/// <summary>A choice of /v1/completions.</summary>
internal sealed record TextChoice(int Index, string Text, TextLogProbs? Logprobs, string? FinishReason)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<int>? PromptTokenIds { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<int>? TokenIds { get; init; }
}

internal sealed record TextLogProbs(
    IReadOnlyList<int> TextOffset,
    IReadOnlyList<float> TokenLogprobs,
    IReadOnlyList<string> Tokens,
    IReadOnlyList<Dictionary<string, float>?> TopLogprobs
);

/// <summary>A choice of /v1/chat/completions: a whole message, or the delta of an event.</summary>
internal sealed record ChatChoice(
    int Index,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] ChatText? Message,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] ChatText? Delta,
    ChatLogProbs? Logprobs,
    string? FinishReason
)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<int>? PromptTokenIds { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<int>? TokenIds { get; init; }
}

internal sealed record ChatText(
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Role,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Content
);

internal sealed record ChatLogProbs(IReadOnlyList<ChatLogProb> Content);

internal record TokenAlternative(string Token, float Logprob, IReadOnlyList<int> Bytes);

internal sealed record ChatLogProb(
    string Token,
    float Logprob,
    IReadOnlyList<int> Bytes,
    IReadOnlyList<TokenAlternative> TopLogprobs
) : TokenAlternative(Token, Logprob, Bytes);
