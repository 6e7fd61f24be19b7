using System.Text.Json;
using Microsoft.AspNetCore.Http;
using SimpleR1.Models.Prompts;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server.Api;

/// <summary>A prompt before it is token ids: a text, or ids already.</summary>
internal readonly record struct Prompt(string? Text, int[]? Ids);

/// <summary>From what clients send as prompts to token ids.</summary>
internal sealed class PromptEncoder(ICompletionSource source, string? chatTemplate, HttpLimits limits)
{
    /// <summary>Texts of more characters than this are encoded by a few at once: the engine needs the cores.</summary>
    private const int LongText = 1 << 15;

    private readonly PromptTemplate? template = chatTemplate is null ? null : PromptTemplate.Create(chatTemplate);
    private readonly SemaphoreSlim longTexts = new(Math.Max(1, Environment.ProcessorCount / 2));
    private readonly int longestToken = Enumerable
        .Range(0, source.Tokenizer.VocabularySize)
        .Max(id => source.Tokenizer.TokenBytes(id).Length);

    /// <summary>Most tokens of one prompt: at least one is left for the completion.</summary>
    public int MaxTokens { get; } =
        limits.PromptTokens is > 0 and var most ? Math.Min(most, source.Context - 1) : source.Context - 1;

    /// <summary>A text, a list of texts, token ids, or a list of lists of token ids.</summary>
    public IReadOnlyList<Prompt> Prompts(JsonFields fields, string field)
    {
        const string expected = "a text, a list of texts, a list of token ids, or a list of such lists";
        if (!fields.Has(field))
            fields.Problem(field, $"missing; expected {expected}");
        return fields.Read(
                field,
                $"{expected} (ids from 0 to {source.Config.VocabularySize - 1})",
                value =>
                    value.ValueKind switch
                    {
                        JsonValueKind.String => [new(value.GetString(), null)],
                        JsonValueKind.Array when value.GetArrayLength() > 0 => value[0].ValueKind switch
                        {
                            JsonValueKind.Number => JsonFields.TokenIds(value, source.Config.VocabularySize) is { } ids
                                ? [new(null, ids)]
                                : null,
                            JsonValueKind.String => All(
                                value,
                                e => e.ValueKind == JsonValueKind.String ? new(e.GetString(), null) : null
                            ),
                            JsonValueKind.Array => All(
                                value,
                                e =>
                                    e.ValueKind == JsonValueKind.Array
                                    && JsonFields.TokenIds(e, source.Config.VocabularySize) is { } ids
                                        ? new(null, ids)
                                        : null
                            ),
                            _ => null,
                        },
                        _ => null,
                    }
            ) ?? [];
    }

    private static Prompt[]? All(JsonElement list, Func<JsonElement, Prompt?> read)
    {
        var prompts = list.EnumerateArray().Select(read).ToArray();
        return prompts.All(p => p is not null) ? [.. prompts.Select(p => p!.Value)] : null;
    }

    /// <summary>The prompt of a conversation, by the server's template.</summary>
    public Prompt Chat(JsonFields fields, string field)
    {
        if (!fields.Has(field))
            fields.Problem(field, "missing; expected a list of {role, content}");
        var messages = fields.Read(
            field,
            "a list of {role, content}, the content a text or a list of {\"type\": \"text\", \"text\": …}",
            value =>
                value.ValueKind == JsonValueKind.Array
                && value.EnumerateArray().Select(Message).ToArray() is var all
                && all.All(m => m is not null)
                    ? all
                    : null
        );
        if (messages is null)
            return default;
        if (template is null)
        {
            fields.Problem(
                field,
                "this model's tokenizer knows no chat format; use /v1/completions, or start the server with --template"
            );
            return default;
        }
        try
        {
            return new(ChatTemplate.Render(template, messages!), null);
        }
        catch (ArgumentException e)
        {
            fields.Problem(field, e.Message);
            return default;
        }
    }

    private static ChatMessage? Message(JsonElement e)
    {
        if (
            e.ValueKind != JsonValueKind.Object
            || !e.TryGetProperty("role", out var role)
            || role.ValueKind != JsonValueKind.String
            || !e.TryGetProperty("content", out var content)
        )
            return null;
        string? text = content.ValueKind switch
        {
            JsonValueKind.String => content.GetString(),
            JsonValueKind.Array when content.EnumerateArray().All(IsText) => string.Concat(
                content.EnumerateArray().Select(part => part.GetProperty("text").GetString())
            ),
            _ => null,
        };
        // "developer" is what newer models of OpenAI call the system.
        return text is null ? null : new(role.GetString() is "developer" ? "system" : role.GetString()!, text);
    }

    private static bool IsText(JsonElement part) =>
        part.ValueKind == JsonValueKind.Object
        && part.TryGetProperty("type", out var type)
        && type.ValueKind == JsonValueKind.String
        && type.GetString() == "text"
        && part.TryGetProperty("text", out var text)
        && text.ValueKind == JsonValueKind.String;

    /// <summary>The prompt's ids, with the model's beginning of text where <paramref name="special"/> says so.</summary>
    /// <exception cref="ApiException">400: it is empty, or too long.</exception>
    public async Task<int[]> EncodeAsync(Prompt prompt, bool special, string field, CancellationToken cancellation)
    {
        int[] ids = prompt.Ids ?? await EncodeAsync(prompt.Text!, special, field, cancellation);
        if (ids.Length == 0)
            throw new ApiException(StatusCodes.Status400BadRequest, $"{field}: empty; give at least one token", field);
        if (ids.Length > MaxTokens)
            throw TooLong(field, $"{ids.Length} tokens");
        return ids;
    }

    private async Task<int[]> EncodeAsync(string text, bool special, string field, CancellationToken cancellation)
    {
        // A text is at least this many tokens, whatever it says: no work for what can't fit.
        long least = text.Length / longestToken;
        if (least > MaxTokens)
            throw TooLong(field, $"{text.Length} characters, at least {least} tokens");
        var tokenizer = source.Tokenizer;
        if (text.Length < LongText)
            return Encode();
        await longTexts.WaitAsync(cancellation);
        try
        {
            return Encode();
        }
        finally
        {
            longTexts.Release();
        }

        int[] Encode()
        {
            try
            {
                return special ? tokenizer.EncodePrompt(text) : tokenizer.Encode(text);
            }
            catch (InvalidDataException e)
            {
                throw new ApiException(StatusCodes.Status400BadRequest, $"{field}: {e.Message}", field);
            } // a character that the tokenizer has no token for
        }
    }

    private ApiException TooLong(string field, string found) =>
        new(
            StatusCodes.Status400BadRequest,
            $"{field}: found {found}; this server takes prompts of up to {MaxTokens} tokens (the context is {source.Context})",
            field,
            "context_length_exceeded"
        );
}
