using System.Text.Json;
using Microsoft.AspNetCore.Http;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Prompts.Jinja;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server.Api;

/// <summary>A prompt before encoding: a text, or token ids already.</summary>
internal readonly record struct Prompt(string? Text, int[]? Ids)
{
    /// <summary>What made the text of a conversation; null for a client's own text.</summary>
    public PromptTemplate? Template { get; init; }
}

/// <summary>Turns what clients send as prompts into token ids.</summary>
internal sealed class PromptEncoder(ICompletionSource source, PromptTemplate? template, HttpLimits limits)
{
    /// <summary>
    /// Of texts with at least this many characters only a few are encoded at once: the engine needs the cores.
    /// </summary>
    private const int LongText = 1 << 15;

    private readonly SemaphoreSlim longTexts = new(Math.Max(1, Environment.ProcessorCount / 2));
    private readonly int longestToken = Enumerable
        .Range(0, source.Tokenizer.VocabularySize)
        .Max(id => source.Tokenizer.TokenBytes(id).Length);

    /// <summary>Most tokens of one prompt; the context has room for at least one more.</summary>
    public int MaxTokens { get; } =
        limits.PromptTokens > 0 ? Math.Min(limits.PromptTokens, source.Context - 1) : source.Context - 1;

    /// <summary>A text, a list of texts, token ids, or a list of lists of token ids.</summary>
    public IReadOnlyList<Prompt> Prompts(JsonFields fields, string field)
    {
        const string expected = "a text, a list of texts, a list of token ids, or a list of such lists";
        if (!fields.Has(field))
            fields.Problem(field, $"missing; expected {expected}");
        return fields.Read(field, $"{expected} (ids from 0 to {source.Config.VocabularySize - 1})", ReadPrompts) ?? [];
    }

    private Prompt[]? ReadPrompts(JsonElement value)
    {
        if (value.ValueKind == JsonValueKind.String)
            return [new(value.GetString(), null)];
        if (value.ValueKind != JsonValueKind.Array || value.GetArrayLength() == 0)
            return null;
        return value[0].ValueKind switch
        {
            JsonValueKind.Number => Ids(value) is { } prompt ? [prompt] : null,
            JsonValueKind.String => All(
                value,
                e => e.ValueKind == JsonValueKind.String ? new(e.GetString(), null) : null
            ),
            JsonValueKind.Array => All(value, e => e.ValueKind == JsonValueKind.Array ? Ids(e) : null),
            _ => null,
        };
    }

    private Prompt? Ids(JsonElement list)
    {
        int[]? ids = JsonFields.TokenIds(list, source.Config.VocabularySize);
        return ids is null ? null : new(null, ids);
    }

    private static Prompt[]? All(JsonElement list, Func<JsonElement, Prompt?> read)
    {
        var prompts = list.EnumerateArray().Select(read).ToArray();
        return prompts.All(p => p is not null) ? [.. prompts.Select(p => p!.Value)] : null;
    }

    /// <summary>The prompt of a conversation, by the server's template.</summary>
    public Prompt Chat(JsonFields fields, string field)
    {
        var chat = ChatFields.Read(fields, field);
        if (chat is not { Messages: { } messages })
            return default;
        if (template is null)
        {
            fields.Problem(
                field,
                "this model has no chat template; use /v1/completions, or start the server with --template"
            );
            return default;
        }
        if (chat.Options.Tools is not null && !template.TakesTools)
            fields.Problem("tools", "the chat template of this model has no place for tools");
        try
        {
            return new(template.Render(messages, chat.Options), null) { Template = template };
        }
        catch (Exception e) when (e is ArgumentException or JinjaException)
        {
            fields.Problem(field, e.Message);
            return default;
        }
    }

    /// <summary>The prompt's token ids.</summary>
    /// <param name="special">Adds the model's beginning-of-text token to a text.</param>
    /// <exception cref="ApiException">
    /// The prompt is empty or too long, or has a character without a token (400).
    /// </exception>
    public async Task<int[]> EncodeAsync(Prompt prompt, bool special, string field, CancellationToken cancellation)
    {
        int[] ids = prompt.Ids ?? await EncodeTextAsync(prompt, special, field, cancellation);
        if (ids.Length == 0)
            throw new ApiException(StatusCodes.Status400BadRequest, $"{field}: empty; give at least one token", field);
        if (ids.Length > MaxTokens)
            throw TooLong(field, $"{ids.Length} tokens");
        return ids;
    }

    private async Task<int[]> EncodeTextAsync(Prompt prompt, bool special, string field, CancellationToken cancellation)
    {
        string text = prompt.Text!;

        // Any text of this length has at least this many tokens: no work for what cannot fit.
        long least = text.Length / longestToken;
        if (least > MaxTokens)
            throw TooLong(field, $"{text.Length} characters, at least {least} tokens");

        if (text.Length < LongText)
            return Encode(prompt, special, field);
        await longTexts.WaitAsync(cancellation);
        try
        {
            return Encode(prompt, special, field);
        }
        finally
        {
            longTexts.Release();
        }
    }

    private int[] Encode(Prompt prompt, bool special, string field)
    {
        string text = prompt.Text!;
        try
        {
            if (special && prompt.Template is { } chat)
                return chat.Encode(source.Tokenizer, text);
            return special ? source.Tokenizer.EncodePrompt(text) : source.Tokenizer.Encode(text);
        }
        catch (InvalidDataException e) // a character without a token
        {
            throw new ApiException(StatusCodes.Status400BadRequest, $"{field}: {e.Message}", field);
        }
    }

    private ApiException TooLong(string field, string found) =>
        new(
            StatusCodes.Status400BadRequest,
            $"{field}: found {found}; this server takes prompts of up to {MaxTokens} tokens "
                + $"(the context is {source.Context})",
            field,
            "context_length_exceeded"
        );
}
