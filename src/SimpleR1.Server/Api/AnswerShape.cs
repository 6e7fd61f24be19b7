using System.Text;
using SimpleR1.Inference;
using SimpleR1.Models.Tokenization;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server.Api;

/// <summary>Puts the pieces of a request's choices into the shape of the API that was called.</summary>
internal sealed class AnswerShape(ICompletionSource source, ApiRequest request, IReadOnlyList<int[]> prompts)
{
    private readonly Tokenizer tokenizer = source.Tokenizer;

    /// <summary>The characters of each choice's tokens so far.</summary>
    private readonly int[] offsets = new int[request.Choices];

    /// <summary>Which choices have had their first piece.</summary>
    private readonly bool[] begun = new bool[request.Choices];

    private string EventName => request.Chat ? "chat.completion.chunk" : "text_completion";

    /// <summary>The whole answer.</summary>
    /// <param name="pieces">One for each choice, with all of the choice's tokens.</param>
    public Answer Whole(IReadOnlyList<Piece> pieces) =>
        Envelope(
            request.Chat ? "chat.completion" : "text_completion",
            [.. pieces.Select(p => Choice(p, whole: true))],
            Usage.Of(prompts, [.. pieces.Select(p => p.Completion!)])
        );

    /// <summary>The event of a piece; null if the piece holds nothing that the client asked for.</summary>
    public Answer? Event(Piece piece)
    {
        bool tokensWanted = request.LogProbs || request.ReturnTokenIds;
        bool wanted = piece.Text.Length > 0 || piece.Completion is not null || tokensWanted && piece.Tokens.Count > 0;
        return wanted ? Envelope(EventName, [Choice(piece, whole: false)], null) : null;
    }

    /// <summary>The event after the last piece, for clients that asked for usage.</summary>
    public Answer UsageEvent(IReadOnlyCollection<Completion> completions) =>
        Envelope(EventName, [], Usage.Of(prompts, completions));

    private Answer Envelope(string name, IReadOnlyList<object> choices, Usage? usage) =>
        new()
        {
            Id = request.Id,
            Object = name,
            Created = request.Created,
            Model = source.Model,
            SystemFingerprint = $"weights-{source.Statistics.WeightVersion}",
            Choices = choices,
            Usage = usage,
        };

    private object Choice(Piece piece, bool whole)
    {
        bool first = !begun[piece.Choice];
        begun[piece.Choice] = true;
        return request.Chat ? ChatChoice(piece, whole, first) : TextChoice(piece, whole, first);
    }

    private TextChoice TextChoice(Piece piece, bool whole, bool first)
    {
        bool withLogProbs = request.LogProbs && HasTokens(piece, whole);
        return new(piece.Choice, piece.Text, withLogProbs ? TextLogProbs(piece) : null, FinishName(piece))
        {
            PromptTokenIds = PromptIds(piece, first),
            TokenIds = TokenIds(piece, whole),
        };
    }

    private ChatChoice ChatChoice(Piece piece, bool whole, bool first)
    {
        bool withText = whole || first || piece.Text.Length > 0;
        var text = new ChatText(whole || first ? "assistant" : null, withText ? piece.Text : null);
        bool withLogProbs = request.LogProbs && HasTokens(piece, whole);
        return new(
            piece.Choice,
            whole ? text : null,
            whole ? null : text,
            withLogProbs ? new([.. piece.Tokens.Select(ChatLogProb)]) : null,
            FinishName(piece)
        )
        {
            PromptTokenIds = PromptIds(piece, first),
            TokenIds = TokenIds(piece, whole),
        };
    }

    /// <summary>Whole answers have their lists of tokens even if these are empty.</summary>
    private static bool HasTokens(Piece piece, bool whole) => whole || piece.Tokens.Count > 0;

    private static string? FinishName(Piece piece) =>
        piece.Completion?.FinishReason switch
        {
            FinishReason.Stop => "stop",
            FinishReason.Length => "length",
            FinishReason.Aborted => "abort",
            _ => null,
        };

    private int[]? PromptIds(Piece piece, bool first) =>
        request.ReturnTokenIds && first ? prompts[piece.Choice / request.Sampling.Samples] : null;

    private int[]? TokenIds(Piece piece, bool whole) =>
        request.ReturnTokenIds && HasTokens(piece, whole) ? [.. piece.Tokens.Select(t => t.Token)] : null;

    private TextLogProbs TextLogProbs(Piece piece)
    {
        var starts = new List<int>();
        var tokens = new List<string>();
        foreach (var token in piece.Tokens)
        {
            tokens.Add(Text(token.Token));
            starts.Add(offsets[piece.Choice]);
            offsets[piece.Choice] += Decoded(token.Token).Length;
        }
        return new(starts, [.. piece.Tokens.Select(t => t.LogProb)], tokens, [.. piece.Tokens.Select(Alternatives)]);
    }

    /// <summary>
    /// Alternatives by text, as the API wants them, the drawn token among them. Of tokens with the same text (parts of
    /// a character) the most probable one stays.
    /// </summary>
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

    private ChatLogProb ChatLogProb(TokenReport token)
    {
        TokenAlternative Alternative(TokenLogProb other) => new(Text(other.Token), other.LogProb, Bytes(other.Token));
        return new(Text(token.Token), token.LogProb, Bytes(token.Token), [.. (token.Top ?? []).Select(Alternative)]);
    }

    private string Text(int token) => request.TokensAsIds ? $"token_id:{token}" : Decoded(token);

    private string Decoded(int token) => Encoding.UTF8.GetString(tokenizer.TokenBytes(token));

    private int[] Bytes(int token)
    {
        var bytes = tokenizer.TokenBytes(token);
        var numbers = new int[bytes.Length];
        for (int i = 0; i < numbers.Length; i++)
            numbers[i] = bytes[i];
        return numbers;
    }
}
