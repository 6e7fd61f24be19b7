using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using SimpleR1.Inference;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server.Api;

/// <summary>What a client asks of /v1/completions or /v1/chat/completions, before its prompts are token ids.</summary>
internal sealed record ApiRequest
{
    public required bool Chat { get; init; }
    public required string Id { get; init; }
    public required IReadOnlyList<Prompt> Prompts { get; init; }

    /// <summary>MaxTokens 0 is the API's default: as many as the context leaves in chat, 16 else.</summary>
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

/// <summary>Reads both APIs' fields: OpenAI's names, then what vLLM adds.</summary>
internal sealed class ApiRequestReader(ICompletionSource source, PromptEncoder encoder, HttpLimits limits)
{
    private const int MostLogProbs = 20,
        MostBiases = 1024,
        MostStops = 16,
        LongestStop = 256,
        MostStopIds = 64;

    /// <exception cref="ApiException">400 with everything that is wrong, or 404: there is no such model.</exception>
    public ApiRequest Read(JsonFields fields, bool chat)
    {
        string? model = fields.Text("model");
        var prompts = chat ? [encoder.Chat(fields, "messages")] : encoder.Prompts(fields, "prompt");
        bool stream = fields.Flag("stream") ?? false;
        var sampling = Sampling(fields, chat, out bool logProbs);
        var request = new ApiRequest
        {
            Chat = chat,
            Id = $"{(chat ? "chatcmpl" : "cmpl")}-{Guid.NewGuid():N}",
            Prompts = prompts,
            Sampling = sampling,
            LogProbs = logProbs,
            Stream = stream,
            IncludeUsage = StreamOptions(fields, stream),
            ReturnTokenIds = fields.Flag("return_token_ids") ?? false,
            TokensAsIds = fields.Flag("return_tokens_as_token_ids") ?? false,
            AddSpecialTokens = fields.Flag("add_special_tokens") ?? true,
        };
        if (prompts.Count * (long)sampling.Samples > limits.Queue)
            fields.Problem(
                request.PromptField,
                $"{prompts.Count} prompts with {sampling.Samples} completions each are more than the {limits.Queue} sequences that this server takes in one request"
            );
        RefuseUnsupported(fields, chat, sampling.Samples);
        fields.ThrowIfWrong();
        if (model is not null && model != source.Model)
            throw new ApiException(
                StatusCodes.Status404NotFound,
                $"There is no model '{Shown.Short(model)}' here; this server has '{source.Model}'",
                "model",
                "model_not_found"
            );
        return request;
    }

    private SamplingParameters Sampling(JsonFields fields, bool chat, out bool logProbs)
    {
        int top = LogProbs(fields, chat, out logProbs);
        long? wanted = fields.Integer("max_tokens", 1, int.MaxValue);
        int? most = (int?)(fields.Integer("max_completion_tokens", 1, int.MaxValue) ?? wanted);
        int least = (int)(fields.Integer("min_tokens", 0, int.MaxValue) ?? 0);
        if (most < least)
            fields.Problem("min_tokens", $"{least} is more than the {most} tokens allowed at most");
        long topK = fields.Integer("top_k", -1, int.MaxValue) ?? 0;
        return new()
        {
            Samples = (int)(fields.Integer("n", 1, limits.N) ?? 1),
            MaxTokens = most ?? 0,
            MinTokens = least,
            Temperature = fields.Number("temperature", 0, 100) ?? 1,
            TopP = fields.Number("top_p", 0, 1, above: true) ?? 1,
            TopK = (int)Math.Max(0, topK), // vLLM's -1 keeps all, like 0
            MinP = fields.Number("min_p", 0, 1) ?? 0,
            RepetitionPenalty = fields.Number("repetition_penalty", 0, 100, above: true) ?? 1,
            PresencePenalty = fields.Number("presence_penalty", -2, 2) ?? 0,
            FrequencyPenalty = fields.Number("frequency_penalty", -2, 2) ?? 0,
            Seed = unchecked(
                (ulong)(fields.Integer("seed", long.MinValue, long.MaxValue) ?? Random.Shared.NextInt64())
            ),
            StopStrings = fields.Texts("stop", MostStops, LongestStop),
            StopTokenIds = fields.TokenIds("stop_token_ids", source.Config.VocabularySize, MostStopIds),
            IncludeStopString = fields.Flag("include_stop_str_in_output") ?? false,
            IgnoreEos = fields.Flag("ignore_eos") ?? false,
            LogitBias = Biases(fields),
            TopLogProbs = top,
        };
    }

    /// <summary>How many alternatives: completions say it in <c>logprobs</c>, chat in <c>top_logprobs</c>.</summary>
    private static int LogProbs(JsonFields fields, bool chat, out bool wanted)
    {
        if (!chat)
        {
            long? count = fields.Integer("logprobs", 0, MostLogProbs);
            wanted = count is not null;
            return (int)(count ?? 0);
        }
        wanted = fields.Flag("logprobs") ?? false;
        long? top = fields.Integer("top_logprobs", 0, MostLogProbs);
        if (top > 0 && !wanted)
            fields.Problem("top_logprobs", "needs logprobs: true");
        return (int)(top ?? 0);
    }

    private Dictionary<int, float> Biases(JsonFields fields) =>
        fields.Read(
            "logit_bias",
            $"an object of up to {MostBiases} token ids (0 .. {source.Config.VocabularySize - 1}) with numbers from -100 to 100",
            e =>
            {
                if (e.ValueKind != JsonValueKind.Object)
                    return null;
                var biases = new Dictionary<int, float>();
                foreach (var entry in e.EnumerateObject())
                {
                    bool fits =
                        int.TryParse(entry.Name, NumberStyles.None, CultureInfo.InvariantCulture, out int id)
                        && id < source.Config.VocabularySize;
                    if (
                        !fits
                        || entry.Value.ValueKind != JsonValueKind.Number
                        || entry.Value.GetDouble() is not (>= -100 and <= 100)
                        || biases.Count == MostBiases
                    )
                        return null;
                    biases[id] = (float)entry.Value.GetDouble();
                }
                return biases;
            }
        ) ?? [];

    private static bool StreamOptions(JsonFields fields, bool stream)
    {
        var options = fields.Value("stream_options");
        if (options.ValueKind == JsonValueKind.Undefined)
            return false;
        if (options.ValueKind != JsonValueKind.Object)
            fields.Problem("stream_options", $"expected an object, found {Shown.Kind(options)}");
        else if (!stream)
            fields.Problem("stream_options", "only with stream: true");
        else
        {
            var inner = new JsonFields(options, "stream_options.");
            bool usage = inner.Flag("include_usage") ?? false;
            inner.Ignore("include_obfuscation"); // padding against listeners, which OpenAI's clients may ask for
            inner.Refuse("continuous_usage_stats", "not supported; usage comes with the last event", Is(false));
            inner.ThrowIfWrong();
            return usage;
        }
        return false;
    }

    private static void RefuseUnsupported(JsonFields fields, bool chat, int n)
    {
        fields.Ignore(
            "user",
            "metadata",
            "store",
            "service_tier",
            "safety_identifier",
            "prompt_cache_key",
            "prompt_cache_retention",
            "spaces_between_special_tokens",
            "request_id"
        );
        if (fields.Integer("best_of", 1, int.MaxValue) is { } best && best != n)
            fields.Problem(
                "best_of",
                $"not supported other than as n ({n}): ask for n completions with logprobs and choose"
            );
        fields.Refuse(
            "skip_special_tokens",
            "only true is supported; use return_token_ids to see special tokens",
            Is(true)
        );
        fields.Refuse(
            "echo",
            "not supported: the log-probs of prompt tokens are not computed; put the prompt in front yourself",
            Is(false)
        );
        fields.Refuse(
            "suffix",
            "not supported: the models here complete, they don't fill in",
            e => e.ValueKind == JsonValueKind.String && e.GetString() == ""
        );
        fields.Refuse("prompt_logprobs", "not supported: the log-probs of prompt tokens are not computed");
        fields.Refuse(
            "response_format",
            "only {\"type\": \"text\"} is supported",
            e =>
                e.ValueKind == JsonValueKind.Object
                && e.TryGetProperty("type", out var type)
                && type.ValueEquals("text")
        );
        if (!chat)
            return;
        fields.Ignore("parallel_tool_calls"); // says how tools are called, and there are none
        fields.Refuse("tools", "not supported", e => e.ValueKind == JsonValueKind.Array && e.GetArrayLength() == 0);
        fields.Refuse(
            "tool_choice",
            "not supported",
            e => e.ValueKind == JsonValueKind.String && e.GetString() == "none"
        );
        fields.Refuse(
            "modalities",
            "only [\"text\"] is supported",
            e =>
                e.ValueKind == JsonValueKind.Array
                && e.GetArrayLength() == 1
                && e[0].ValueKind == JsonValueKind.String
                && e[0].GetString() == "text"
        );
        foreach (
            string field in (string[])
                [
                    "functions",
                    "function_call",
                    "audio",
                    "prediction",
                    "reasoning_effort",
                    "verbosity",
                    "web_search_options",
                ]
        )
            fields.Refuse(field, "not supported");
    }

    private static Func<JsonElement, bool> Is(bool value) =>
        e => e.ValueKind == (value ? JsonValueKind.True : JsonValueKind.False);
}
