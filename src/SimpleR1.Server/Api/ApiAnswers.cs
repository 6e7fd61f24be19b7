using System.Text.Json.Serialization;
using SimpleR1.Inference;
using SimpleR1.Models.Tokenization;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server.Api;

internal sealed record Usage(int PromptTokens, int CompletionTokens, int TotalTokens, Usage.Details PromptTokensDetails)
{
    internal sealed record Details(int CachedTokens);

    public static Usage Of(IReadOnlyList<int[]> prompts, IReadOnlyCollection<Completion> completions)
    {
        int asked = prompts.Sum(p => p.Length),
            answered = completions.Sum(c => c.Tokens.Length);
        return new(
            asked,
            answered,
            asked + answered,
            new(completions.Where(c => c.SampleIndex == 0).Sum(c => c.CachedPromptTokens))
        );
    }
}

/// <summary>An answer, or an event of one, in either API's shape.</summary>
/// <param name="Object">What it is, in OpenAI's words.</param>
/// <param name="SystemFingerprint">Which weights answered.</param>
internal sealed record Answer(
    string Id,
    string Object,
    long Created,
    string Model,
    string SystemFingerprint,
    IReadOnlyList<object> Choices,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] Usage? Usage
);

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

/// <summary>Puts pieces into the shape of the API that asked.</summary>
internal sealed class AnswerShape(ICompletionSource source, ApiRequest request, IReadOnlyList<int[]> prompts)
{
    private readonly Tokenizer tokenizer = source.Tokenizer;
    private readonly int[] offsets = new int[request.Choices]; // characters of each choice's tokens so far
    private readonly bool[] begun = new bool[request.Choices];

    /// <summary>The whole answer.</summary>
    /// <param name="pieces">One for each choice, with all of it.</param>
    public Answer Whole(IReadOnlyList<Piece> pieces) =>
        Envelope(
            request.Chat ? "chat.completion" : "text_completion",
            [.. pieces.Select(p => Choice(p, whole: true))],
            Usage.Of(prompts, [.. pieces.Select(p => p.Completion!)])
        );

    /// <summary>The event of a piece; null where it says nothing that was asked for.</summary>
    public Answer? Event(Piece piece)
    {
        bool says =
            piece.Text.Length > 0
            || piece.Completion is not null
            || (request.LogProbs || request.ReturnTokenIds) && piece.Tokens.Count > 0;
        return says ? Envelope(EventName, [Choice(piece, whole: false)], null) : null;
    }

    /// <summary>The event behind the last, where the client asked for usage.</summary>
    public Answer Last(IReadOnlyCollection<Completion> completions) =>
        Envelope(EventName, [], Usage.Of(prompts, completions));

    private string EventName => request.Chat ? "chat.completion.chunk" : "text_completion";

    private Answer Envelope(string name, IReadOnlyList<object> choices, Usage? usage) =>
        new(
            request.Id,
            name,
            request.Created,
            source.Model,
            $"weights-{source.Statistics.WeightVersion}",
            choices,
            usage
        );

    private object Choice(Piece piece, bool whole)
    {
        string? finish = piece.Completion?.FinishReason switch
        {
            FinishReason.Stop => "stop",
            FinishReason.Length => "length",
            FinishReason.Aborted => "abort",
            _ => null,
        };
        bool first = !begun[piece.Choice];
        begun[piece.Choice] = true;
        var promptIds = request.ReturnTokenIds && first ? prompts[piece.Choice / request.Sampling.Samples] : null;
        bool tells = whole || piece.Tokens.Count > 0;
        var ids = request.ReturnTokenIds && tells ? piece.Tokens.Select(t => t.Token).ToArray() : null;
        if (!request.Chat)
            return new TextChoice(
                piece.Choice,
                piece.Text,
                request.LogProbs && tells ? TextLogProbs(piece) : null,
                finish
            )
            {
                PromptTokenIds = promptIds,
                TokenIds = ids,
            };
        var text = new ChatText(
            whole || first ? "assistant" : null,
            whole || piece.Text.Length > 0 || first ? piece.Text : null
        );
        return new ChatChoice(
            piece.Choice,
            whole ? text : null,
            whole ? null : text,
            request.LogProbs && tells ? new([.. piece.Tokens.Select(ChatLogProb)]) : null,
            finish
        )
        {
            PromptTokenIds = promptIds,
            TokenIds = ids,
        };
    }

    private TextLogProbs TextLogProbs(Piece piece)
    {
        var (at, tokens) = (new List<int>(), new List<string>());
        foreach (var token in piece.Tokens)
        {
            tokens.Add(Text(token.Token));
            at.Add(offsets[piece.Choice]);
            offsets[piece.Choice] += Decoded(token.Token).Length;
        }
        return new(at, [.. piece.Tokens.Select(t => t.LogProb)], tokens, [.. piece.Tokens.Select(Alternatives)]);
    }

    /// <summary>By text, as the API wants it, the drawn token among them: of tokens with the same text (parts of a character) the most probable stays.</summary>
    private Dictionary<string, float>? Alternatives(TokenReport token)
    {
        if (token.Top is null)
            return null;
        var alternatives = new Dictionary<string, float>();
        foreach (var other in token.Top)
            alternatives.TryAdd(Text(other.Token), other.LogProb);
        alternatives.TryAdd(Text(token.Token), token.LogProb);
        return alternatives;
    }

    private ChatLogProb ChatLogProb(TokenReport token) =>
        new(
            Text(token.Token),
            token.LogProb,
            Bytes(token.Token),
            [
                .. (token.Top ?? []).Select(other => new TokenAlternative(
                    Text(other.Token),
                    other.LogProb,
                    Bytes(other.Token)
                )),
            ]
        );

    private string Text(int token) => request.TokensAsIds ? $"token_id:{token}" : Decoded(token);

    private string Decoded(int token) => System.Text.Encoding.UTF8.GetString(tokenizer.TokenBytes(token));

    private int[] Bytes(int token)
    {
        var bytes = tokenizer.TokenBytes(token);
        var numbers = new int[bytes.Length];
        for (int i = 0; i < numbers.Length; i++)
            numbers[i] = bytes[i];
        return numbers;
    }
}
