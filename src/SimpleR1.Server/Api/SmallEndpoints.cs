using Microsoft.AspNetCore.Http;
using SimpleR1.Server.Limits;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server.Api;

/// <summary>/v1/models, /tokenize, /detokenize and /health.</summary>
internal sealed class SmallEndpoints(
    ICompletionSource source,
    PromptEncoder encoder,
    HttpLimits limits,
    BodyBudget budget,
    Admission admission
)
{
    private readonly long created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();

    private sealed record Model(string Id, string Object, long Created, string OwnedBy, int MaxModelLen);

    private sealed record Models(string Object, IReadOnlyList<Model> Data);

    private sealed record Tokens(
        int Count,
        int MaxModelLen,
        [property: System.Text.Json.Serialization.JsonPropertyName("tokens")] IReadOnlyList<int> Ids
    );

    private sealed record Text(string Prompt);

    private sealed record Health(string Status, string? Problem);

    public Task ModelsAsync(HttpContext context) => ApiJson.WriteAsync(context, new Models("list", [Served]));

    public Task ModelAsync(HttpContext context, string name) =>
        name == source.Model
            ? ApiJson.WriteAsync(context, Served)
            : throw new ApiException(
                StatusCodes.Status404NotFound,
                $"There is no model '{Shown.Short(name)}' here; this server has '{source.Model}'",
                "model",
                "model_not_found"
            );

    private Model Served => new(source.Model, "model", created, "simple-r1", source.Context);

    /// <summary>A text, or a conversation, as the ids that the model would see.</summary>
    public async Task TokenizeAsync(HttpContext context)
    {
        Prompt prompt;
        bool special;
        string field;
        using (var body = await RequestBody.ReadAsync(context, budget, limits))
            (prompt, special, field) = body.Read(root =>
            {
                var fields = new JsonFields(root);
                fields.Ignore("model");
                bool chat = fields.Has("messages"),
                    add = fields.Flag("add_special_tokens") ?? true;
                if (chat && fields.Has("prompt"))
                    fields.Problem("prompt", "give either prompt or messages");
                var found = chat ? encoder.Chat(fields, "messages") : new(fields.Text("prompt"), null);
                if (!chat && found.Text is null && !fields.Has("prompt"))
                    fields.Problem("prompt", "missing; expected a text (or messages)");
                fields.ThrowIfWrong();
                return (found, add, chat ? "messages" : "prompt");
            });
        int[] ids = await encoder.EncodeAsync(prompt, special, field, context.RequestAborted);
        await ApiJson.WriteAsync(context, new Tokens(ids.Length, source.Context, ids));
    }

    /// <summary>Ids as text, special tokens included.</summary>
    public async Task DetokenizeAsync(HttpContext context)
    {
        using var body = await RequestBody.ReadAsync(context, budget, limits);
        var ids = body.Read(root =>
        {
            var fields = new JsonFields(root);
            fields.Ignore("model");
            if (!fields.Has("tokens"))
                fields.Problem("tokens", "missing; expected a list of token ids");
            var found = fields.TokenIds("tokens", source.Tokenizer.VocabularySize, int.MaxValue);
            fields.ThrowIfWrong();
            return found;
        });
        await ApiJson.WriteAsync(
            context,
            new Text(
                string.Concat(
                    source.Tokenizer.Decode(
                        [.. ids.Where(id => source.Tokenizer.TokenText(id) is not null)],
                        withSpecialTokens: true
                    )
                )
            )
        );
    }

    /// <summary>200 while the source can complete and the server takes requests, else 503: for probes.</summary>
    public Task HealthAsync(HttpContext context)
    {
        string? problem = source.Problem ?? (admission.Closed ? "stopping" : null);
        if (problem is not null)
            context.Response.StatusCode = StatusCodes.Status503ServiceUnavailable;
        return ApiJson.WriteAsync(context, new Health(problem is null ? "ok" : "unavailable", problem));
    }
}
