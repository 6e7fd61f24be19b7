using System.Text.Json;
using Microsoft.AspNetCore.Http;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server.Api;

/// <summary>Reads the fields of both APIs: OpenAI's, and those that vLLM adds.</summary>
internal sealed class ApiRequestReader(ICompletionSource source, PromptEncoder encoder, HttpLimits limits)
{
    private readonly SamplingFields samplingFields = new(source, limits);

    /// <exception cref="ApiException">A field is wrong (400), or the server has another model (404).</exception>
    public ApiRequest Read(JsonFields fields, bool chat)
    {
        string? model = fields.Text("model");
        var prompts = chat ? [encoder.Chat(fields, "messages")] : encoder.Prompts(fields, "prompt");
        bool stream = fields.Flag("stream") ?? false;
        int topLogProbs = LogProbs(fields, chat, out bool logProbs);
        var request = new ApiRequest
        {
            Chat = chat,
            Id = $"{(chat ? "chatcmpl" : "cmpl")}-{Guid.NewGuid():N}",
            Prompts = prompts,
            Sampling = samplingFields.Read(fields, topLogProbs),
            LogProbs = logProbs,
            Stream = stream,
            IncludeUsage = IncludesUsage(fields, stream),
            ReturnTokenIds = fields.Flag("return_token_ids") ?? false,
            TokensAsIds = fields.Flag("return_tokens_as_token_ids") ?? false,
            AddSpecialTokens = fields.Flag("add_special_tokens") ?? true,
        };

        // Problems that need more than one field.
        CheckChoices(fields, request);
        UnsupportedFields.Refuse(fields, request.Sampling.Samples);
        if (chat)
            UnsupportedFields.RefuseInChat(fields);
        fields.ThrowIfWrong();

        if (model is not null && model != source.Model)
            throw NoSuchModel(source, model);
        return request;
    }

    /// <summary>The error of a request for a model that the server does not have.</summary>
    public static ApiException NoSuchModel(ICompletionSource source, string model) =>
        new(
            StatusCodes.Status404NotFound,
            $"There is no model '{Shown.Short(model)}' here; this server has '{source.Model}'",
            "model",
            "model_not_found"
        );

    private void CheckChoices(JsonFields fields, ApiRequest request)
    {
        int prompts = request.Prompts.Count;
        int samples = request.Sampling.Samples;
        if (prompts * (long)samples > limits.Queue)
            fields.Problem(
                request.PromptField,
                $"{prompts} prompts with {samples} completions each are more than the {limits.Queue} sequences "
                    + "that this server takes in one request"
            );
    }

    /// <summary>
    /// How many alternatives a token has: completions say it in <c>logprobs</c>, chat in <c>top_logprobs</c>.
    /// </summary>
    /// <param name="wanted">Whether the client asks for log-probs at all.</param>
    private static int LogProbs(JsonFields fields, bool chat, out bool wanted)
    {
        const int most = 20;
        if (!chat)
        {
            long? count = fields.Integer("logprobs", 0, most);
            wanted = count is not null;
            return (int)(count ?? 0);
        }

        wanted = fields.Flag("logprobs") ?? false;
        long? top = fields.Integer("top_logprobs", 0, most);
        if (top > 0 && !wanted)
            fields.Problem("top_logprobs", "needs logprobs: true");
        return (int)(top ?? 0);
    }

    private static bool IncludesUsage(JsonFields fields, bool stream)
    {
        var options = fields.Value("stream_options");
        if (options.ValueKind == JsonValueKind.Undefined)
            return false;
        if (options.ValueKind != JsonValueKind.Object)
        {
            fields.Problem("stream_options", $"expected an object, found {Shown.Kind(options)}");
            return false;
        }
        if (!stream)
        {
            fields.Problem("stream_options", "only with stream: true");
            return false;
        }

        var inner = new JsonFields(options, "stream_options.");
        bool usage = inner.Flag("include_usage") ?? false;
        inner.Ignore("include_obfuscation"); // padding against eavesdroppers, which OpenAI's clients may ask for
        inner.Refuse(
            "continuous_usage_stats",
            "not supported; usage comes with the last event",
            value => value.ValueKind == JsonValueKind.False
        );
        inner.ThrowIfWrong();
        return usage;
    }
}
