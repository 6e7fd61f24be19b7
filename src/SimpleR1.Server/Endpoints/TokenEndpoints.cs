using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.AspNetCore.Http;
using SimpleR1.Server.Api;
using SimpleR1.Server.Limits;

namespace SimpleR1.Server.Endpoints;

/// <summary>The model's tokenizer: /tokenize and /detokenize.</summary>
internal sealed class TokenEndpoints(EndpointContext server)
{
    /// <summary>A text, or a conversation, as the token ids that the model would see.</summary>
    public async Task TokenizeAsync(HttpContext context)
    {
        TextToEncode text;
        using (var body = await RequestBody.ReadAsync(context, server.Bodies, server.Limits))
            text = body.Read(ReadText);

        int[] ids = await server.Encoder.EncodeAsync(text.Prompt, text.Special, text.Field, context.RequestAborted);
        await ApiJson.WriteAsync(context, new Tokens(ids.Length, server.Source.Context, ids));
    }

    private TextToEncode ReadText(JsonElement root)
    {
        var fields = new JsonFields(root);
        fields.Ignore("model");
        bool chat = fields.Has("messages");
        bool special = fields.Flag("add_special_tokens") ?? true;
        if (chat && fields.Has("prompt"))
            fields.Problem("prompt", "give either prompt or messages");

        var prompt = chat ? server.Encoder.Chat(fields, "messages") : new(fields.Text("prompt"), null);
        if (!chat && prompt.Text is null && !fields.Has("prompt"))
            fields.Problem("prompt", "missing; expected a text (or messages)");
        fields.ThrowIfWrong();
        return new(prompt, special, chat ? "messages" : "prompt");
    }

    /// <summary>Token ids as a text, special tokens included.</summary>
    public async Task DetokenizeAsync(HttpContext context)
    {
        using var body = await RequestBody.ReadAsync(context, server.Bodies, server.Limits);
        var ids = body.Read(ReadIds);

        var tokenizer = server.Source.Tokenizer;
        int[] withText = [.. ids.Where(id => tokenizer.TokenText(id) is not null)];
        string text = string.Concat(tokenizer.Decode(withText, withSpecialTokens: true));
        await ApiJson.WriteAsync(context, new DecodedText(text));
    }

    private IReadOnlyList<int> ReadIds(JsonElement root)
    {
        var fields = new JsonFields(root);
        fields.Ignore("model");
        if (!fields.Has("tokens"))
            fields.Problem("tokens", "missing; expected a list of token ids");
        var ids = fields.TokenIds("tokens", server.Source.Tokenizer.VocabularySize, int.MaxValue);
        fields.ThrowIfWrong();
        return ids;
    }

    private readonly record struct TextToEncode(Prompt Prompt, bool Special, string Field);

    private sealed record Tokens(
        int Count,
        int MaxModelLen,
        [property: JsonPropertyName("tokens")] IReadOnlyList<int> Ids
    );

    private sealed record DecodedText(string Prompt);
}
