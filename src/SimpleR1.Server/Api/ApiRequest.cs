using SimpleR1.Inference;

namespace SimpleR1.Server.Api;

/// <summary>What a client asks of /v1/completions or /v1/chat/completions, before its prompts are token ids.</summary>
internal sealed record ApiRequest
{
    public required bool Chat { get; init; }
    public required string Id { get; init; }
    public required IReadOnlyList<Prompt> Prompts { get; init; }

    /// <summary>MaxTokens 0 is the API's default: in chat as many as the context leaves, otherwise 16.</summary>
    public required SamplingParameters Sampling { get; init; }
    public required bool Stream { get; init; }
    public required bool IncludeUsage { get; init; }
    public required bool LogProbs { get; init; }
    public required bool ReturnTokenIds { get; init; }
    public required bool TokensAsIds { get; init; }
    public required bool AddSpecialTokens { get; init; }
    public long Created { get; } = DateTimeOffset.UtcNow.ToUnixTimeSeconds();

    public string PromptField => Chat ? "messages" : "prompt";
    public int Choices => Prompts.Count * Sampling.Samples;
}
